"""This file says what is wrong with a model, an artifact or a value given to one.

Every error carries one or more `Problem`s and prints as `where: what is wrong;
expected ...; got ...`, as in `daphne_bridge.errors`; so a caller that catches
`BridgeError` at the edge of a program sees every kind of bad input.
"""

from daphne_bridge.errors import BridgeError, Problem

__all__ = [
    "ArgumentError",
    "ArtifactError",
    "FlowsError",
    "InferenceError",
    "ModelError",
    "Problem",
]


class FlowsError(BridgeError):
    """Bad input to this package, described by one or more problems."""


class ArgumentError(FlowsError, ValueError):
    """A wrong argument of a call, which Python programs catch as a `ValueError`."""


class ModelError(FlowsError):
    """A graph has no target density, or a value does not fit its model."""


class ArtifactError(FlowsError):
    """An artifact cannot be read, or belongs to another model."""


class InferenceError(FlowsError):
    """Proposals, weights or particles that no estimate can be made from."""

"""This file refuses, in one sentence, work whose optional library is not installed."""

from importlib.util import find_spec

from .errors import FlowsError

__all__ = ["require"]


def require(library: str, *, extra: str, where: str, instead: str = "") -> None:
    """Raise unless a library can be imported.

    Args:
        library: Name of its package.
        extra: Of this project, that installs it.
        where: What needs it, for the message.
        instead: What also helps, for the message.

    Raises:
        FlowsError: If it is not installed.
    """
    if find_spec(library) is None:
        expected = f"pip install 'daphne-bridge[{extra}]'"
        expected += f", or {instead}" if instead else ""
        raise FlowsError.at(where, f"{library} is not installed", expected)

"""This file builds the flow that a manifest and its tensors describe, of any kind.

What was stored is not trusted: tensors are compared with the lengths that the kind
counts before anything of that size is made, then with the flow that was built.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, ArtifactError, Problem
from ..flow.kinds import Kind, kind_of
from ..flow.protocol import Flow
from ..flow.settings import read_settings
from ..flow.structure import Structure
from .manifest import FlowEntry

__all__ = ["stored_flow"]


def stored_flow(
    entry: FlowEntry,
    structure: Structure,
    tensors: Mapping[str, Tensor],
    *,
    manifest: Path,
    weights: Path,
) -> Flow:
    """Return a flow in float64 that training does not change.

    Args:
        entry: Kind and settings.
        structure: What it reads.
        tensors: All of its numbers.
        manifest: Where kind and settings stand, for messages.
        weights: Where the tensors stand, for messages.

    Raises:
        ArtifactError: If the kind is not known, the settings are none of it, or the
            tensors do not fit.
    """
    try:
        kind = kind_of(entry.kind)
    except ArgumentError as error:
        place = f"{manifest}: $.flow.kind"
        raise ArtifactError(
            *(replace(each, where=place, got=each.got[:60]) for each in error.problems)
        ) from None
    config = _config(kind, entry.config, f"{manifest}: $.flow.config")
    if kind.lengths is not None:
        for name, length in kind.lengths(structure, config).items():
            tensor = tensors.get(name)
            if tensor is None or tensor.numel() != length:
                got = "none" if tensor is None else f"{tensor.numel()}"
                raise _misfit(weights, name, f"{length} numbers"[:40], got)
    flow = kind.build(structure, config, 0)
    expected = {n: tuple(t.shape) for n, t in flow.state_dict().items()}
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            shape = f"shape {expected.get(name)}"
            raise _misfit(weights, name[:60], shape, f"{found.get(name)}")
    flow.load_state_dict(dict(tensors))
    for parameter in flow.parameters():
        parameter.requires_grad = False
    return flow.to(torch.float64)


def _config(kind: Kind, entry: Mapping[str, Any], where: str) -> Any:
    names = [field.name for field in fields(kind.config)]
    if set(entry) != set(names):
        got = ", ".join(sorted(entry))[:80]
        raise ArtifactError(
            Problem(where, f"not the settings of {kind.name}", ", ".join(names), got)
        )
    values, problems = read_settings(kind.config, entry, where)
    if problems:
        raise ArtifactError(*problems)
    return kind.config(**values)


def _misfit(weights: Path, name: str, expected: str, got: str) -> ArtifactError:
    what = f"the tensor {name} does not fit the architecture"
    return ArtifactError(Problem(str(weights), what, expected, got))

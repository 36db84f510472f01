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

from ..errors import ArgumentError, ArtifactError
from ..flow.completed import parted
from ..flow.kinds import kind_of
from ..flow.protocol import Flow
from ..flow.settings import read_settings
from ..flow.structure import Structure
from ..heads.building import inner_structure
from ..heads.flow import HeadedFlow
from ..heads.networks import Heads, HeadsConfig, lengths_of
from .manifest import FlowEntry, HeadsEntry

__all__ = ["stored_flow"]


def stored_flow(
    entry: FlowEntry,
    heads: HeadsEntry | None,
    structure: Structure,
    tensors: Mapping[str, Tensor],
    *,
    manifest: Path,
    weights: Path,
) -> Flow:
    """Return a flow in float64 that training does not change.

    Args:
        entry: Kind and settings.
        heads: Of the last latents of the structure; None without any.
        structure: What it reads.
        tensors: All of its numbers.
        manifest: Where kind and settings stand, for messages.
        weights: Where the tensors stand, for messages.

    Raises:
        ArtifactError: If the kind is not known, the settings are none of it, or the
            tensors do not fit.
    """
    if heads is not None:
        return _headed(entry, heads, structure, tensors, manifest, weights)
    try:
        kind = kind_of(entry.kind)
    except ArgumentError as error:
        place = f"{manifest}: $.flow.kind"
        raise ArtifactError(
            *(replace(each, where=place, got=each.got[:60]) for each in error.problems)
        ) from None
    where = f"{manifest}: $.flow.config"
    config = _config(kind.config, kind.name, entry.config, where)
    if kind.lengths is not None:
        _check_lengths(tensors, kind.lengths(structure, config), weights)
    flow = kind.build(structure, config, 0)
    _fill(flow, tensors, weights)
    return flow.to(torch.float64)


def _headed(
    entry: FlowEntry,
    heads: HeadsEntry,
    structure: Structure,
    tensors: Mapping[str, Tensor],
    manifest: Path,
    weights: Path,
) -> Flow:
    """Return a flow with heads; see `stored_flow`."""
    inner, own = parted(tensors)
    cells = heads.cells
    flow = stored_flow(
        entry,
        None,
        inner_structure(structure, len(cells)),
        inner,
        manifest=manifest,
        weights=weights,
    )
    where = f"{manifest}: $.heads.config"
    config = _config(HeadsConfig, "heads", heads.config, where)
    _check_lengths(own, lengths_of(structure, cells, config), weights)
    made = Heads(structure, cells, config, 0)
    _fill(made, own, weights)
    return HeadedFlow(flow, made.to(torch.float64), structure)


def _check_lengths(
    tensors: Mapping[str, Tensor], lengths: Mapping[str, int], weights: Path
) -> None:
    for name, length in lengths.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.numel() != length:
            got = "none" if tensor is None else f"{tensor.numel()}"
            raise _misfit(weights, name, f"{length} numbers"[:40], got)


def _fill(module: Flow | Heads, tensors: Mapping[str, Tensor], weights: Path) -> None:
    """Give a flow its stored tensors, which training no longer changes."""
    expected = {n: tuple(t.shape) for n, t in module.state_dict().items()}
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            shape = f"shape {expected.get(name)}"
            raise _misfit(weights, name[:60], shape, f"{found.get(name)}")
    module.load_state_dict(dict(tensors))
    for parameter in module.parameters():
        parameter.requires_grad = False


def _config(shape: type, name: str, entry: Mapping[str, Any], where: str) -> Any:
    names = [field.name for field in fields(shape)]
    if set(entry) != set(names):
        got = ", ".join(sorted(entry))[:80]
        raise ArtifactError.at(
            where, f"not the settings of {name}", ", ".join(names), got
        )
    values, problems = read_settings(shape, entry, where)
    if problems:
        raise ArtifactError(*problems)
    return shape(**values)


def _misfit(weights: Path, name: str, expected: str, got: str) -> ArtifactError:
    what = f"the tensor {name} does not fit the architecture"
    return ArtifactError.at(str(weights), what, expected, got)

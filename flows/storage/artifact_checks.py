"""This file compares what a manifest claims with the tensors that are there.

A manifest is written by someone else. A few characters in it can claim a billion
columns, so that its numbers are checked by arithmetic alone, against the tensors that
the weights file really holds, before anything of the claimed size is made.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ArtifactError
from .manifest import (
    HeadsEntry,
    InverseEntry,
    LayoutEntry,
    Manifest,
    StructureEntry,
    VariableEntry,
)

__all__ = ["check_claims"]

_DTYPES = (torch.float32, torch.float64)


def check_claims(
    manifest: Manifest,
    tensors: Mapping[str, Tensor],
    manifest_place: str,
    weights_place: str,
) -> None:
    """Check layout and inverse for themselves and against the tensors.

    Args:
        manifest: Of the right form (`manifest.schema.json`).
        tensors: Of the weights file.
        manifest_place: For messages.
        weights_place: For messages.

    Raises:
        ArtifactError: If columns leave gaps, names are unknown or stand twice, or
            there are more columns than numbers in the tensors.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise ArtifactError.at(
                weights_place,
                f"the tensor {name[:60]} has another type of numbers",
                "float32 or float64",
                str(tensor.dtype).removeprefix("torch."),
            )
    layout = manifest.layout
    latents = {variable.name for variable in layout.latents}
    strange = set(manifest.model.without_density) - latents
    if strange:
        place = f"{manifest_place}: $.model.without_density"
        raise ArtifactError.at(place, "no latent of this name", "", min(strange)[:60])
    known = {node.name for node in manifest.model.nodes if not node.observed}
    if bad := {*manifest.integrated} - (known - latents):
        place = f"{manifest_place}: $.integrated"
        raise ArtifactError.at(
            place, "no latent beside those of the layout", "", min(bad)[:60]
        )
    where = f"{manifest_place}: $.layout"
    for part, variables in (("latents", layout.latents), ("observed", layout.observed)):
        _check_columns(variables, f"{where}.{part}", "start", "stop")
        _check_shapes(variables, f"{where}.{part}")
    _check_columns(layout.latents, f"{where}.latents", "free_start", "free_stop")
    _check_free_sizes(layout.latents, f"{where}.latents")
    if manifest.inverse is not None:
        _check_edges(manifest.inverse, layout, f"{manifest_place}: $.inverse")
    structure = manifest.structure
    where = f"{manifest_place}: $.structure"
    read = _check_edges(structure, layout, where)
    if len(structure.nuisances) != len(layout.latents):
        raise ArtifactError.at(
            f"{where}.nuisances",
            "one number per latent is needed",
            f"{len(layout.latents)}",
            f"{len(structure.nuisances)}",
        )
    free = layout.latents[-1].free_stop
    observed = layout.observed[-1].stop if layout.observed else 0
    if manifest.data and len(manifest.data) != observed:
        raise ArtifactError.at(
            f"{manifest_place}: $.data",
            "one number per observed column is needed",
            f"{observed}"[:80],
            f"{len(manifest.data)}",
        )
    if manifest.heads is not None:
        _check_heads(manifest.heads, manifest, f"{manifest_place}: $.heads")
    held = sum(tensor.numel() for tensor in tensors.values())
    for what, claimed in (
        ("state columns", free + sum(structure.nuisances)),
        ("observed columns", observed),
        ("observed columns that are read", read),
    ):
        if claimed > held:
            raise ArtifactError.at(
                weights_place,
                f"the tensors are too few for {what} of the manifest",
                f"at least {claimed} numbers"[:80],
                f"{held}",
            )
    if manifest.normalisation != structure.normalisation:
        raise ArtifactError.at(
            f"{manifest_place}: $.normalisation",
            "normalisation and structure disagree",
            structure.normalisation,
            manifest.normalisation,
        )


def _check_heads(heads: HeadsEntry, manifest: Manifest, where: str) -> None:
    """Check that heads are of latents with one column, and cells in their order."""
    sizes = {v.name: v.stop - v.start for v in manifest.layout.latents}
    latents = manifest.structure.latents
    if len(heads.cells) > len(latents):
        got = f"{len(heads.cells)}"
        raise ArtifactError.at(
            where, "more heads than latents", f"at most {len(latents)}", got
        )
    names = latents[len(latents) - len(heads.cells) :]
    for number, (name, each) in enumerate(zip(names, heads.cells, strict=True)):
        edges = each.edges
        is_sorted = all(a < b for a, b in pairwise(edges))
        if sizes[name] != 1 or not is_sorted or max(map(abs, edges)) > 2**50:
            raise ArtifactError.at(
                f"{where}.cells[{number}]",
                "no cells of a discrete latent",
                "increasing edges, of a latent with one column",
                f"{name[:60]}, {list(edges[:6])}"[:120],
            )


def _check_columns(
    variables: Sequence[VariableEntry], where: str, first: str, last: str
) -> None:
    """Check that columns follow each other without gaps, and names stand once."""
    end = 0
    names: set[str] = set()
    for number, variable in enumerate(variables):
        place = f"{where}[{number}]"
        if variable.name in names:
            raise ArtifactError.at(place, "this name stands twice")
        names.add(variable.name)
        start, stop = getattr(variable, first), getattr(variable, last)
        if start != end or stop < end:
            raise ArtifactError.at(
                place,
                "the columns do not follow those before",
                f"{first} {end}"[:80],
                f"{start} to {stop}"[:80],
            )
        end = stop


def _check_shapes(variables: Sequence[VariableEntry], where: str) -> None:
    for number, variable in enumerate(variables):
        size = variable.stop - variable.start
        if math.prod(variable.shape) != size:
            raise ArtifactError.at(
                f"{where}[{number}]",
                "shape and columns disagree",
                f"{size} columns"[:80],
                f"{list(variable.shape)}"[:80],
            )


def _check_free_sizes(latents: Sequence[VariableEntry], where: str) -> None:
    """Check that no latent has far more values than free columns.

    A simplex has one more, a symmetric p x p matrix p^2 for p (p + 1) / 2.
    """
    for number, variable in enumerate(latents):
        size = variable.stop - variable.start
        free = variable.free_stop - variable.free_start
        if not 0 < free <= size <= 2 * free:
            raise ArtifactError.at(
                f"{where}[{number}]",
                "values and free columns disagree",
                f"{free} to {2 * free} values"[:80],
                f"{size}"[:80],
            )


def _check_edges(
    edges: InverseEntry | StructureEntry, layout: LayoutEntry, where: str
) -> int:
    """Return how many observed columns all latents together read."""
    latents = {variable.name for variable in layout.latents}
    observed = {v.name: v.stop - v.start for v in layout.observed}
    order, parents = edges.latents, edges.parents
    if len(order) != len(latents) or set(order) != latents or set(parents) != latents:
        raise ArtifactError.at(
            where, "other latents than in the layout", f"{len(latents)}"
        )
    before: set[str] = set()
    read = 0
    for name in order:
        place = f"{where}.parents.{name}"
        if len(set(parents[name])) != len(parents[name]):
            raise ArtifactError.at(place, "a parent stands twice")
        for parent in parents[name]:
            if parent not in before and parent not in observed:
                raise ArtifactError.at(
                    place,
                    "this parent does not come before its child",
                    "an earlier latent or an observed node",
                    parent[:60],
                )
            read += observed.get(parent, 0)
        before.add(name)
    return read

"""This file builds a flow with heads for a model whose discrete latents are sampled.

The inverse comes in two parts: of the continuous latents given the data, all discrete
ones eliminated first; and of the sampled ones given data and continuous latents, those
that are summed out eliminated first. Heads read what the second says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from daphne_bridge.inversion.nami import invert_dag

from ..flow.building import KeptInverse, build_structure, inverse_of
from ..flow.kinds import build_flow
from ..flow.normalisation import widen
from ..flow.structure import Structure
from ..marginal.collapsed import CollapsedModel
from .cells import Cells, cells_of
from .flow import HeadedFlow
from .networks import Heads, HeadsConfig

__all__ = ["headed_flow", "headed_inverse", "headed_structure", "inner_structure"]


def headed_inverse(target: CollapsedModel) -> KeptInverse:
    """Return a faithful inverse: continuous latents, then sampled discrete ones."""
    graph, layout = target.graph, target.layout
    names = [variable.name for variable in layout.latents]
    continuous = [name for name in names if name not in target.sampled]
    first = KeptInverse((), {})
    if continuous:
        first = inverse_of(graph, layout.keeping(dict.fromkeys(continuous, 1)))
    found = invert_dag(
        [node.name for node in graph.nodes],
        {node.name: node.parents for node in graph.nodes},
        [*graph.observed, *continuous],
        summed_out=[name for name in graph.latents if name not in names],
    )
    heads = found.latents[: len(target.sampled)]
    order = {name: place for place, name in enumerate((*first.latents, *heads))}
    parents = {
        name: tuple(
            sorted(found.parents[name], key=lambda each: order.get(each, len(order)))
        )
        for name in heads
    }
    return KeptInverse((*first.latents, *heads), {**first.parents, **parents})


def headed_structure(
    target: CollapsedModel,
    inverse: KeptInverse,
    nuisances: Mapping[str, int],
    *,
    num_draws: int,
    seed: int,
) -> tuple[Structure, tuple[Cells, ...]]:
    """Return the structure of a flow with heads, and the cells of these.

    Args:
        target: The model; some of its discrete latents are sampled.
        inverse: Of `headed_inverse`.
        nuisances: Nuisance columns by name of a continuous latent.
        num_draws: Joint draws to look at.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = target.sample(num_draws, generator=generator)
    layout = target.layout
    heads = inverse.latents[len(inverse.latents) - len(target.sampled) :]
    own = {name: count for name, count in nuisances.items() if name not in heads}
    whole = build_structure(inverse, layout, own)
    free = target.unconstrain(draws.latents)[0]
    inner = inner_structure(whole, len(heads))
    columns = _continuous_columns(whole, len(heads))
    wide = widen(inner, free[:, columns], draws.observed)
    blocks = [
        replace(block, free_columns=old.free_columns)
        for block, old in zip(wide.blocks, whole.blocks, strict=False)
    ]
    structure = replace(whole, blocks=(*blocks, *whole.blocks[len(blocks) :]))
    cells = tuple(
        cells_of(target.model, name, draws.latents[:, layout.variable(name).start])
        for name in heads
    )
    return structure, cells


def inner_structure(structure: Structure, num_heads: int) -> Structure:
    """Return the structure of the latents without a head, in columns of their own."""
    columns = _continuous_columns(structure, num_heads)
    place = {column: number for number, column in enumerate(columns)}
    blocks = structure.blocks[: len(structure.blocks) - num_heads]
    return Structure(
        tuple(
            replace(block, free_columns=tuple(place[c] for c in block.free_columns))
            for block in blocks
        ),
        structure.observed_dim,
    )


def headed_flow(
    structure: Structure,
    cells: Sequence[Cells],
    *,
    kind: str,
    config: Any,
    heads: HeadsConfig,
    seed: int,
) -> HeadedFlow:
    """Return a new flow with heads; equal seeds give equal weights."""
    inner = build_flow(
        inner_structure(structure, len(cells)), config, kind=kind, seed=seed
    )
    return HeadedFlow(inner, Heads(structure, cells, heads, seed + 1), structure)


def _continuous_columns(structure: Structure, num_heads: int) -> list[int]:
    blocks = structure.blocks[: len(structure.blocks) - num_heads]
    return sorted(c for block in blocks for c in block.free_columns)

"""This file builds the structure of a flow from a faithful inverse and a model.

Three steps: the edges of the inverse (`build_structure`), then, by joint draws of the
model, factors or further edges (`prepare_structure`); `structure_of` does all of it.
For one data set alone `structure_at` leaves out the data: latents read latents.

The inverse of a model that has fewer latents than its graph is taken with the others
eliminated first (`inverse_of`). They then come last in sampling order, and what stands
before them is a faithful inverse of the model without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert

from ..errors import ArgumentError
from ..model.draws import Draws
from ..model.layout import Layout
from .factors import find_factors
from .normalisation import widen
from .structure import StateBlock, Structure

__all__ = [
    "InverseLike",
    "KeptInverse",
    "SampledModel",
    "build_structure",
    "inverse_of",
    "prepare_structure",
    "structure_at",
    "structure_of",
]


class InverseLike(Protocol):
    """What a structure needs to know of the inverse."""

    @property
    def latents(self) -> Sequence[str]:
        """Names in sampling order."""

    @property
    def parents(self) -> Mapping[str, Sequence[str]]:
        """Latent and observed parents by name."""


@dataclass(frozen=True, slots=True)
class KeptInverse:
    """A faithful inverse over the latents of a model.

    Args:
        latents: their names in sampling order.
        parents: by latent, earlier latents as sampled, then observed nodes.
    """

    latents: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]


class SampledModel(Protocol):
    """What preparing a structure needs of a model."""

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Joint draws."""

    def unconstrain(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Free coordinates, with log|det|."""


class LaidOutModel(SampledModel, Protocol):
    """A model that knows its graph and its columns."""

    @property
    def graph(self) -> Graph:
        """The checked graph."""

    @property
    def layout(self) -> Layout:
        """Columns of latents and observed variables."""


def inverse_of(graph: Graph, layout: Layout) -> KeptInverse:
    """A faithful inverse over the latents of a layout.

    Args:
        graph: of the model.
        layout: lacks the latents that are summed or integrated out.
    """
    kept = {variable.name for variable in layout.latents}
    found = invert(graph, summed_out=[n for n in graph.latents if n not in kept])
    names = found.latents[: len(kept)]
    return KeptInverse(names, {name: tuple(found.parents[name]) for name in names})


def structure_of(
    model: LaidOutModel,
    nuisances: int | Mapping[str, int] = 0,
    *,
    num_draws: int = 40_000,
    seed: int = 0,
) -> Structure:
    """The structure to build a flow for a model with.

    Args:
        model: the target.
        nuisances: nuisance columns per latent, or per latent's name (others get 0).
        num_draws: joint draws to look at.
        seed: of the draws.

    Raises:
        ArgumentError: if a latent has no continuous value.
    """
    return prepare_structure(
        model,
        build_structure(inverse_of(model.graph, model.layout), model.layout, nuisances),
        model.layout,
        {node.name: node.parents for node in model.graph.nodes},
        num_draws=num_draws,
        seed=seed,
    )


def prepare_structure(
    model: SampledModel,
    structure: Structure,
    layout: Layout,
    parents: Mapping[str, Sequence[str]],
    *,
    num_draws: int,
    seed: int,
) -> Structure:
    """The structure to build a flow with, from joint draws.

    With factors if the model is linear in its latents once the data are known
    (`find_factors`), otherwise with the further edges of `widen`.

    Args:
        model: the target.
        structure: from the inverse.
        layout: columns of latents and observed variables.
        parents: of each node in the model, by name.
        num_draws: joint draws to look at.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = model.sample(num_draws, generator=generator)
    free = model.unconstrain(draws.latents)[0]
    known = {v.name for v in (*layout.latents, *layout.observed)}
    # Where latents are summed out a node's parents are not all there to be linear in.
    if all(known.issuperset(above) for above in parents.values()):
        structure_with = find_factors(structure, layout, parents, free, draws.observed)
        if structure_with.factors:
            return structure_with
    return widen(structure, free, draws.observed)


def structure_at(
    inverse: InverseLike,
    layout: Layout,
    free: Tensor,
    observed: Tensor,
    nuisances: int | Mapping[str, int] = 0,
) -> Structure:
    """The structure of a flow of one data set: no block reads what is observed.

    Args:
        inverse: of the model.
        layout: columns of latents and observed variables.
        free: draws of the posterior in free coordinates, one in each row.
        observed: the data.
        nuisances: nuisance columns per latent, or per latent's name (others get 0).
    """
    whole = build_structure(inverse, layout, nuisances)
    blocks = tuple(replace(block, observed_columns=()) for block in whole.blocks)
    return widen(replace(whole, blocks=blocks), free, observed.expand(len(free), -1))


def build_structure(
    inverse: InverseLike,
    layout: Layout,
    nuisances: int | Mapping[str, int] = 0,
) -> Structure:
    """The structure of a flow with the edges of an inverse.

    Args:
        inverse: latents in sampling order, parents by name.
        layout: columns of latents and observed variables.
        nuisances: nuisance columns per latent, or per latent's name (others get 0).

    Raises:
        ArgumentError: if inverse and layout are of different models, or a latent has no
            continuous value.
    """
    latents = {variable.name: variable for variable in layout.latents}
    observed = {variable.name: variable for variable in layout.observed}
    if set(inverse.latents) != set(latents):
        raise ArgumentError.at(
            "structure",
            "inverse and layout have other latents",
            f"{sorted(latents)}",
            f"{sorted(inverse.latents)}",
        )
    position = {name: i for i, name in enumerate(inverse.latents)}
    blocks = []
    for name in inverse.latents:
        parents = inverse.parents[name]
        unknown = [p for p in parents if p not in position and p not in observed]
        if unknown:
            raise ArgumentError.at(
                "structure",
                f"unknown parent of {name}",
                "a latent or an observed variable of the layout",
                unknown[0],
            )
        variable = latents[name]
        seen = [observed[parent] for parent in parents if parent in observed]
        blocks.append(
            StateBlock(
                name=name,
                free_columns=tuple(variable.free_columns),
                nuisances=(
                    nuisances if isinstance(nuisances, int) else nuisances.get(name, 0)
                ),
                latent_parents=tuple(
                    sorted(position[p] for p in parents if p in position)
                ),
                observed_columns=tuple(sorted(c for v in seen for c in v.columns)),
            )
        )
    return Structure(tuple(blocks), sum(v.stop - v.start for v in observed.values()))

"""This file makes the structured Gaussian a kind of flow (`flow/kinds.py`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from daphne_bridge.graph.graph import Graph

from ..autoregressive.kind import KIND as KIND_OF_CORRECTION
from ..errors import ArgumentError
from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.structure import Structure
from ..model.layout import Layout
from .configurations import mixture_potentials
from .corrected import NETWORKS, CorrectedFlow
from .flow import StructuredGaussianConfig, StructuredGaussianFlow
from .mixture import GaussianMixtureFlow
from .natural import climb
from .reading import at_data, potentials_of
from .scaling import potential_lengths

__all__ = ["KIND"]


def _lengths(
    structure: Structure, config: StructuredGaussianConfig
) -> Mapping[str, int]:
    own = potential_lengths(structure, hidden=config.hidden, layers=config.layers)
    found = {
        **normalisation_lengths(structure),
        **{f"normalisation.{name}": length for name, length in own.items()},
    }
    if config.corrected_by != "none":
        correction = KIND_OF_CORRECTION.lengths
        assert correction is not None  # noqa: S101 (it counts them)
        found.update(correction(structure, NETWORKS))
    return found


def _structure(
    structure: Structure, graph: Graph, layout: Layout, data: Tensor | None
) -> Structure:
    has_discrete = len(graph.latents) > len(layout.latents)
    read = mixture_potentials if has_discrete else potentials_of
    potentials = read(graph, layout)
    if data is None:
        return replace(structure, potentials=potentials)
    blocks = tuple(replace(block, observed_columns=()) for block in structure.blocks)
    known = at_data(potentials, data.tolist())
    return replace(structure, blocks=blocks, potentials=known)


_Built = StructuredGaussianFlow | GaussianMixtureFlow | CorrectedFlow


def _build(structure: Structure, config: StructuredGaussianConfig, seed: int) -> _Built:
    if any(each.component for each in structure.potentials):
        if config.corrected_by != "none":
            raise ArgumentError.at(
                "structured-gaussian, corrected_by",
                "the mixture is the posterior itself",
                "none",
                config.corrected_by,
            )
        return GaussianMixtureFlow(structure, config, seed)
    if config.corrected_by != "none":
        return CorrectedFlow(structure, config, seed)
    return StructuredGaussianFlow(structure, config, seed)


def _begin(flow: _Built, model: Any, data: Tensor) -> None:
    """Climbs the bound of the structured Gaussian by natural gradients, in float64."""
    if isinstance(flow, GaussianMixtureFlow):
        return
    alone = StructuredGaussianFlow(flow.structure, StructuredGaussianConfig(), 0)
    alone = alone.to(torch.float64)
    alone.normalisation.load_state_dict(flow.normalisation.state_dict())
    for _ in climb(alone, model, data):
        pass
    flow.normalisation.load_state_dict(alone.normalisation.state_dict())


KIND = Kind(
    "structured-gaussian",
    StructuredGaussianConfig,
    _build,
    lengths=_lengths,
    structure=_structure,
    begin=_begin,
    training={
        "integrate": "none",
        "learning_rate": 5e-3,
        "batch_size": 512,
        "final_batch_size": 512,
    },
)

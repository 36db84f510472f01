"""This file makes the structured Gaussian a kind of flow (`flow/kinds.py`)."""

from collections.abc import Mapping
from dataclasses import replace

from daphne_bridge.graph.graph import Graph

from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.structure import Structure
from ..model.layout import Layout
from .flow import StructuredGaussianConfig, StructuredGaussianFlow
from .reading import potentials_of
from .scaling import potential_lengths

__all__ = ["KIND"]


def _lengths(
    structure: Structure, config: StructuredGaussianConfig
) -> Mapping[str, int]:
    own = potential_lengths(structure, hidden=config.hidden, layers=config.layers)
    return {
        **normalisation_lengths(structure),
        **{f"normalisation.{name}": length for name, length in own.items()},
    }


def _structure(structure: Structure, graph: Graph, layout: Layout) -> Structure:
    return replace(structure, potentials=potentials_of(graph, layout))


KIND = Kind(
    "structured-gaussian",
    StructuredGaussianConfig,
    StructuredGaussianFlow,
    lengths=_lengths,
    structure=_structure,
    training={"augment": 0, "learning_rate": 5e-3},
)

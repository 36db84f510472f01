"""This file makes the flow of finite length a kind of flow (`flow/kinds.py`)."""

from collections.abc import Mapping

from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.structure import Structure
from .chain import Chain
from .flow import FiniteConfig, FiniteFlow
from .networks import group_lengths

__all__ = ["KIND"]


def _lengths(structure: Structure, config: FiniteConfig) -> Mapping[str, int]:
    groups = group_lengths(
        structure,
        width=Chain(config.transform, config.length).width,
        hidden=config.hidden,
        layers=config.layers,
        prefix="networks.",
    )
    return {**normalisation_lengths(structure), **groups}


KIND = Kind(
    "finite", FiniteConfig, FiniteFlow, lengths=_lengths, training={"integrate": "none"}
)

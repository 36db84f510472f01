"""This file makes the flow of finite length a kind of flow (`flow/kinds.py`)."""

import copy
from collections.abc import Mapping

import torch

from ..flow.kinds import Kind
from ..flow.structure import Structure
from .chain import Chain
from .flow import FiniteConfig, FiniteFlow
from .networks import group_lengths

__all__ = ["KIND"]


def _build(structure: Structure, config: FiniteConfig, seed: int) -> FiniteFlow:
    return FiniteFlow(structure, config, seed=seed)


def _for_weights(flow: FiniteFlow, tolerance: float) -> FiniteFlow:  # noqa: ARG001
    """A float64 copy on the CPU; the flow itself if it is one."""
    if flow.dtype == torch.float64 and flow.device.type == "cpu":
        return flow
    return copy.deepcopy(flow).to(torch.device("cpu")).double()


def _lengths(structure: Structure, config: FiniteConfig) -> Mapping[str, int]:
    return {
        "normalisation.shift": structure.state_dim,
        "normalisation.observed_shift": structure.observed_dim,
        **group_lengths(
            structure,
            width=Chain(config.transform, config.length).width,
            hidden=config.hidden,
            layers=config.layers,
            prefix="networks.",
        ),
    }


KIND = Kind(
    name="finite",
    config=FiniteConfig,
    build=_build,
    for_weights=_for_weights,
    lengths=_lengths,
    training={"augment": 0},
)

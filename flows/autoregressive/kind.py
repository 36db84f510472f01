"""This file makes the autoregressive flow a kind of flow (`flow/kinds.py`)."""

import copy
from collections.abc import Mapping

import torch

from ..flow.kinds import Kind
from ..flow.structure import Structure
from .conditioner import NetworkConfig, reads_of
from .flow import AutoregressiveFlow

__all__ = ["KIND"]


def _build(
    structure: Structure, config: NetworkConfig, seed: int
) -> AutoregressiveFlow:
    return AutoregressiveFlow(structure, config, seed=seed)


def _for_weights(
    flow: AutoregressiveFlow,
    tolerance: float,  # noqa: ARG001 (nothing is solved to a tolerance)
) -> AutoregressiveFlow:
    if flow.dtype == torch.float64 and flow.device.type == "cpu":
        return flow
    return copy.deepcopy(flow).cpu().double()


def _lengths(structure: Structure, config: NetworkConfig) -> Mapping[str, int]:
    """Lengths of what grows with columns or settings."""
    count, hidden = structure.free_dim, config.hidden
    inner, outputs = config.layers - 1, 3 * config.components
    found = {
        "normalisation.shift": structure.state_dim,
        "normalisation.observed_shift": structure.observed_dim,
        "conditioner.first": hidden * sum(map(len, reads_of(structure))),
        "conditioner.hidden": inner * count * hidden * hidden,
        "conditioner.last": count * hidden * outputs,
    }
    if structure.factors:
        found["normalisation.factor_coefficients"] = sum(
            (1 + len(factor.latents)) * (1 + len(factor.observed))
            for factor in structure.factors
        )
    return found


KIND = Kind(
    name="autoregressive",
    config=NetworkConfig,
    build=_build,
    for_weights=_for_weights,
    lengths=_lengths,
    training={
        "augment": 0,
        "integrate": "auto",
        "learning_rate": 2e-3,
        "final_learning_rate": 1e-5,
        "warm_start_fraction": 0.5,
        "warm_start_seconds": 1e8,
        "warm_start_learning_rate": 4e-3,
    },
)

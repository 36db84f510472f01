"""This file makes the autoregressive flow a kind of flow (`flow/kinds.py`)."""

from collections.abc import Mapping

from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.structure import Structure
from .conditioner import NetworkConfig, reads_of
from .flow import AutoregressiveFlow

__all__ = ["KIND"]


def _lengths(structure: Structure, config: NetworkConfig) -> Mapping[str, int]:
    """Lengths of what grows with columns or settings."""
    count, hidden = structure.free_dim, config.hidden
    inner, outputs = config.layers - 1, 3 * config.components
    return {
        **normalisation_lengths(structure),
        "conditioner.first": hidden * sum(map(len, reads_of(structure))),
        "conditioner.hidden": inner * count * hidden * hidden,
        "conditioner.last": count * hidden * outputs,
    }


KIND = Kind(
    "autoregressive",
    NetworkConfig,
    AutoregressiveFlow,
    lengths=_lengths,
    training={
        "augment": 0,
        "integrate": "auto",
        "learning_rate": 2e-3,
        "final_learning_rate": 1e-5,
        "warm_start_fraction": 0.8,
        "warm_start_seconds": 1e8,
        "warm_start_learning_rate": 4e-3,
    },
)

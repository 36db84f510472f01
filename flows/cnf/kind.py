"""This file makes the continuous normalizing flow a kind of flow (`flow/kinds.py`)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.structure import Structure
from .engine import AdaptiveEngine, Engine
from .engines import choose_engine, weighing_engine
from .flow import ConditionalFlow
from .vector_field import FieldConfig, hidden_sizes

__all__ = ["KIND", "field_lengths"]


def _for_weights(flow: ConditionalFlow, tolerance: float) -> ConditionalFlow:
    solver = getattr(flow.engine, "adaptive", flow.engine)
    if isinstance(solver, AdaptiveEngine) and solver.tolerance < tolerance:
        tolerance = solver.tolerance
    return _precise(flow, weighing_engine(tolerance), torch.device("cpu"))


def _certified(flow: ConditionalFlow, tolerance: float) -> ConditionalFlow:
    return _precise(flow, AdaptiveEngine(tolerance), flow.device)


def _precise(
    flow: ConditionalFlow, engine: Engine, device: torch.device
) -> ConditionalFlow:
    """A float64 copy that an engine solves; the flow itself if it is one."""
    if flow.dtype == torch.float64 and flow.device == device and flow.engine == engine:
        return flow
    return copy.deepcopy(flow).to(device).double().solved_by(engine)


def _solved_with(flow: ConditionalFlow, engine: str, **how: Any) -> ConditionalFlow:
    return flow.with_engines(choose_engine(engine, device=flow.device.type, **how))


def field_lengths(structure: Structure, config: FieldConfig) -> Mapping[str, int]:
    """Return the lengths of the network's tensors, by name in the flow's state.

    Nothing is made. Their sum is the number of weights.
    """
    hidden = hidden_sizes(structure, config.hidden)
    state = structure.sizes
    inputs = [state, *[hidden] * (config.layers - 1)]
    outputs = [*[hidden] * (config.layers - 1), state]
    weights = {
        f"field.weights.{layer}": sum(
            rows[i] * (columns[i] + sum(columns[j] for j in block.latent_parents))
            for i, block in enumerate(structure.blocks)
        )
        for layer, (rows, columns) in enumerate(zip(outputs, inputs, strict=True))
    }
    read = zip(hidden, structure.blocks, strict=True)
    observed = sum(rows * len(block.observed_columns) for rows, block in read)
    width = sum(map(sum, outputs))
    units = ("bias", "time_bias", "gate_rate", "gate_offset")
    return {
        **weights,
        "field.observed_weight": observed,
        **{f"field.{name}": width for name in units},
    }


def _lengths(structure: Structure, config: FieldConfig) -> Mapping[str, int]:
    return {**normalisation_lengths(structure), **field_lengths(structure, config)}


KIND = Kind(
    "cnf",
    FieldConfig,
    ConditionalFlow,
    for_weights=_for_weights,
    certified=_certified,
    solved_with=_solved_with,
    lengths=_lengths,
)

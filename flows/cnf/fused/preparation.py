"""This file makes the arrays of a solve from a field's parameters."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.lanes import MAX_GROUPS, aligned
from ...kernels.tiles import LANES
from ..solve import stage_times
from ..vector_field import VectorField
from .arrays import Gradients, Tables, Workspace
from .compile import KERNEL
from .plan import Plan

__all__ = ["FieldParameters", "make_tables", "make_workspace", "zero_gradients"]


@dataclass(frozen=True, slots=True)
class FieldParameters:
    """The vector field's parameters, packed as in `structure.Packing`.

    Args:
        weights: per layer.
        observed_weight: first layer's, on observed columns.
        bias: b, all layers joined.
        time_bias: c, likewise.
        gate_rate: g, likewise.
        gate_offset: k, likewise.
    """

    weights: tuple[Tensor, ...]
    observed_weight: Tensor
    bias: Tensor
    time_bias: Tensor
    gate_rate: Tensor
    gate_offset: Tensor

    @classmethod
    def of(cls, field: VectorField) -> "FieldParameters":
        """A field's parameters in single precision."""
        return cls(
            tuple(weight.float() for weight in field.weights),
            field.observed_weight.float(),
            field.bias.float(),
            field.time_bias.float(),
            field.gate_rate.float(),
            field.gate_offset.float(),
        )


def make_tables(
    plan: Plan, parameters: FieldParameters, num_steps: int
) -> tuple[Tables, Tensor]:
    """Tables of a solve, and its stage times."""
    net = plan.network
    times = stage_times(num_steps).float()
    column = times.unsqueeze(-1)
    weights = torch.cat(parameters.weights).numpy()
    size = times.numel() * int(net.table[-1])
    has_trace = net.residual and net.num_layers == 3
    tables = Tables(
        weights=weights,
        turned=weights[plan.turn],
        given=parameters.observed_weight.numpy()[plan.turn_observed],
        bias=parameters.bias.contiguous().numpy(),
        gates=torch.sigmoid(column * parameters.gate_rate + parameters.gate_offset)
        .reshape(-1)
        .numpy(),
        drifts=(column * parameters.time_bias).reshape(-1).numpy(),
        start=np.empty(size, dtype=np.float32),
        close=np.empty(size, dtype=np.float32),
        trace=np.zeros(
            times.numel() * int(net.hidden[-1]) if has_trace else 1, dtype=np.float32
        ),
        times=times.numpy(),
    )
    KERNEL.compiled.fill_tables(net, tables, times.numel())
    return tables, times


def zero_gradients(tables: Tables) -> Gradients:
    """Sums before anything was added."""
    return Gradients(
        *(np.zeros_like(getattr(tables, name)) for name in Gradients._fields)
    )


def make_workspace(plan: Plan) -> Workspace:
    """Scratch arrays of one thread."""
    net = plan.network
    lanes = MAX_GROUPS * LANES
    hidden, state = int(net.hidden[-1]), int(net.state[-1])
    inner = (net.num_layers - 1) * hidden
    heights = np.diff(net.hidden)
    levels = max(net.num_layers - 2, 1)
    widest = int(max(heights.max(), np.diff(net.state).max(), net.given[2].max()))
    cells = int((heights * net.columns).max())
    acc = max(widest**2, 2 * cells + levels * int(heights.max()) ** 2)
    matrices = (net.num_layers - 1) * net.chain
    flat = int(net.columns.max()) * lanes
    tanh = aligned(2 * inner * lanes)
    return Workspace(
        base=aligned(hidden * lanes),
        linear=aligned(2 * plan.features * lanes),
        tanh=tanh,
        unit=aligned(2 * inner * lanes) if net.residual else tanh,
        slope=aligned(inner * lanes),
        velocity=aligned(max(hidden, state) * lanes),
        total=aligned(state * lanes),
        slope_bar=aligned(inner * lanes),
        unit_bar=aligned(hidden * lanes),
        stage_bar=aligned(state * lanes),
        first_bar=aligned(hidden * lanes),
        chain=aligned(matrices),
        raw=aligned(max(matrices, flat)),
        bar=aligned(max(net.chain, flat)),
        turn=aligned(net.chain),
        acc=aligned(acc * LANES),
        sums=aligned(2 * plan.features * LANES),
    )

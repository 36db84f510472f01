r"""This file solves networks without blocks in the steps that train those with them.

Hutchinson's estimate of the divergence needs eᵀ J e, J = ∂f/∂z. J e is pushed forward
beside the state, one more row of each layer's matrix product, where eᵀ J would be a
backward pass that training goes through a second time. Both directions are solved
together. With D = gate (1 - tanh²) of a layer, its rows are

    u = tanh(a),   u̇ = D (W u̇_before),   a = gate (W u_before + b) + c t.

Steps are the graded ones of `solve.py`. The terms per node add up to the
log-determinant, but are no conditional log densities.

References:
    Grathwohl et al., "FFJORD", ICLR 2019.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from .baselines import GatedField
from .engine import Engine, Rows
from .solve import Solution, times_of_signs
from .vector_field import VectorField

__all__ = ["PushedNoiseEngine"]

Pair = Float[Tensor, "2 direction batch column"]
"""Values of rows, and their derivatives along the noise."""


@dataclass(frozen=True, slots=True)
class PushedNoiseEngine(Engine):
    """Graded Runge-Kutta steps with Hutchinson's divergence and gradients through them.

    Args:
        generator: source of the noise, one sign per row and column of each solve.
        num_steps: number of steps.
    """

    generator: torch.Generator
    num_steps: int
    is_exact: ClassVar[bool] = False

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and log-determinants, with gradients; the field is a `GatedField`."""
        gated = cast("GatedField", field)
        draws = torch.randint(0, 2, rows.start.shape, generator=self.generator)
        noise = 2.0 * draws.to(rows.start) - 1.0
        times = times_of_signs(rows.sign, self.num_steps)[..., None, None]
        network = _Network(gated, rows, times)
        widths = (times[2::2] - times[:-2:2]).abs()
        state, pushed = rows.start, torch.zeros_like(rows.start)
        for number, width in enumerate(widths):
            at = 2 * number
            k1, d1 = network(at, state, noise)
            k2, d2 = network(at + 1, state + width / 2 * k1, noise)
            k3, d3 = network(at + 1, state + width / 2 * k2, noise)
            k4, d4 = network(at + 2, state + width * k3, noise)
            state = state + width / 6 * (k1 + 2 * (k2 + k3) + k4)
            pushed = pushed + width / 6 * (d1 + 2 * (d2 + d3) + d4)
        nodes = state.new_zeros(*state.shape[:-1], gated.num_nodes)
        log_det = nodes.index_add(-1, gated.node, noise * pushed)
        return Solution(state, log_det, 4 * self.num_steps)

    def with_steps(self, factor: int) -> "PushedNoiseEngine":
        """The engine with ``factor`` times the steps."""
        return replace(self, num_steps=self.num_steps * factor)


class _Network:
    """The velocity of rows along the solve, with what does not change made once.

    Args:
        field: the network.
        rows: to be solved.
        time: of each stage and direction, [time, direction, 1, 1].
    """

    def __init__(self, field: GatedField, rows: Rows, time: Tensor) -> None:
        first, *others = (weight.t() for weight in field.masked_weights())
        width = rows.start.shape[-1]
        self.weights = [first[:width], *others]
        self.sign = rows.sign[:, None, None]
        offset = rows.observed @ first[width:-1] + time * first[-1]
        self.gates, self.drifts = [], []
        for number, bias in enumerate(field.bias):
            rate, at_zero = field.gate_rate[number], field.gate_offset[number]
            gate = torch.sigmoid(time * rate + at_zero)
            linear = bias if number else bias + offset
            self.gates.append(gate.unbind())
            self.drifts.append(
                (gate * linear + field.time_bias[number] * time).unbind()
            )

    def __call__(self, at: int, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity at a time, and its derivative along the noise."""
        pair = torch.stack([state, noise])
        *hidden, last = zip(self.weights, self.gates, self.drifts, strict=True)
        for weight, gates, drifts in hidden:
            pair = _Layer.apply(pair @ weight, gates[at], drifts[at])  # type: ignore[no-untyped-call]
        weight, gates, drifts = last
        change = self.sign * gates[at] * (pair @ weight)
        return change[0] + self.sign * drifts[at], change[1]


class _Layer(torch.autograd.Function):
    """Values and derivatives behind gate and tanh; its own backward is faster."""

    @staticmethod
    def forward(ctx: Any, linear: Pair, gate: Tensor, drift: Tensor) -> Pair:
        value = torch.addcmul(drift, linear[0], gate).tanh_()
        slope = 1.0 - value * value
        ctx.save_for_backward(linear, gate, value, slope)
        ctx.drift_shape = drift.shape
        return torch.stack([value, slope * gate * linear[1]])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Pair, Tensor, Tensor]:
        (gradient,) = gradients
        linear, gate, value, slope = ctx.saved_tensors
        pushed = gradient[1] * slope
        along = pushed * linear[1]
        active = torch.addcmul(gradient[0] * slope, along * gate, value, value=-2.0)
        to_linear = torch.stack([active, pushed]) * gate
        to_gate = torch.addcmul(along, active, linear[0]).sum(1, keepdim=True)
        return to_linear, to_gate, active.sum_to_size(ctx.drift_shape)

"""This file evaluates a column's network for a pack, and carries cotangents back.

    h_1 = silu(a_1),   h_l = h_{l-1} + silu(a_l),   a_l linear in what stands before it,

as in `flow/column_networks.py`; silu(a) = a s, with slope s (1 + a (1 - s)), s being
1 / (1 + exp -a).
"""

import numpy as np

from ...kernels.block_product import product
from ...kernels.lane_sums import fold
from ...kernels.lanes import Floats
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, compiled, exp, load, splat, store
from .plan import Plan, Weights, Workspace

__all__ = ["add_gradients", "begin_sums", "evaluate", "fold_sums"]


@compiled
def evaluate(
    plan: Plan, weights: Weights, work: Workspace, i: int, x: Floats, x_at: int,
    groups: int,
) -> None:  # fmt: skip
    """Write the outputs of column ``i`` of a pack, and what its layers hold."""
    N = groups * LANES
    C, L, H, O = plan.num_columns, plan.layers, plan.hidden, plan.outputs
    for l in range(L):
        at = l * H * N
        before = (l - 1) * C + i
        if l == 0:
            product(
                work.linear, 0, x, x_at, N, weights.first, 0, plan.runs,
                plan.first_runs[i], plan.first_runs[i + 1], H, groups, 0,
            )  # fmt: skip
        else:
            product(
                work.linear, at, work.units, at - H * N, N, weights.hidden,
                before * H * H, plan.inner, 0, 1, H, groups, 0,
            )  # fmt: skip
        for r in range(H):
            if l == 0:
                bias = splat(weights.first_bias[i * H + r])
            else:
                bias = splat(weights.hidden_bias[before * H + r])
            for g in range(groups):
                here = at + r * N + g * LANES
                linear = load(work.linear, here) + bias
                store(work.linear, here, linear)
                unit = linear / (exp(linear * -1.0) + 1.0)
                if l > 0:
                    unit = unit + load(work.units, here - H * N)
                store(work.units, here, unit)
    product(
        work.ends, 0, work.units, (L - 1) * H * N, N, weights.last, i * H * O,
        plan.inner, 0, 1, O, groups, 0,
    )  # fmt: skip
    for r in range(O):
        bias = splat(weights.last_bias[i * O + r])
        for g in range(groups):
            here = r * N + g * LANES
            store(work.ends, here, load(work.ends, here) + bias)


@compiled
def begin_sums(plan: Plan, weights: Weights, work: Workspace, i: int) -> None:
    """Set the sums of column ``i`` to 0, and exchange its weights' axes."""
    C, L, H, O = plan.num_columns, plan.layers, plan.hidden, plan.outputs
    for at in range(0, _places(plan, i)[4] * LANES, LANES):
        store(work.sums, at, splat(np.float32(0.0)))
    for l in range(1, L):
        source = ((l - 1) * C + i) * H * H
        target = (l - 1) * H * H
        for q in range(H):
            for r in range(H):
                work.turned[target + r * H + q] = weights.hidden[source + q * H + r]
    source = i * H * O
    target = (L - 1) * H * H
    for q in range(H):
        for r in range(O):
            work.turned[target + r * H + q] = weights.last[source + q * O + r]


@compiled
def add_gradients(
    plan: Plan, work: Workspace, i: int, x: Floats, x_at: int,
    groups: int,
) -> None:  # fmt: skip
    """Add a pack's gradients of column ``i``, from the cotangents of its outputs."""
    N = groups * LANES
    L, H, O = plan.layers, plan.hidden, plan.outputs
    hidden, last, bias, last_bias, _ = _places(plan, i)
    for r in range(O):
        to = (last_bias + r) * LANES
        total = load(work.sums, to)
        for g in range(groups):
            total = total + load(work.end_bar, r * N + g * LANES)
        store(work.sums, to, total)
    top = (L - 1) * H * N
    outer(work.sums, last * LANES, work.units, top, work.end_bar, 0, N, H, O, groups, 1)
    product(
        work.unit_bar, 0, work.end_bar, 0, N, work.turned, (L - 1) * H * H, plan.last,
        0, 1, H, groups, 0,
    )  # fmt: skip
    for turn in range(L):
        l = L - 1 - turn
        at = l * H * N
        for r in range(H):
            to = (bias + l * H + r) * LANES
            total = load(work.sums, to)
            for g in range(groups):
                here = at + r * N + g * LANES
                linear = load(work.linear, here)
                rise = splat(np.float32(1.0)) / (exp(linear * -1.0) + 1.0)
                slope = rise * (linear * (splat(np.float32(1.0)) - rise) + 1.0)
                bar = slope * load(work.unit_bar, r * N + g * LANES)
                store(work.linear, here, bar)
                total = total + bar
            store(work.sums, to, total)
        if l > 0:
            outer(
                work.sums, (hidden + (l - 1) * H * H) * LANES, work.units, at - H * N,
                work.linear, at, N, H, H, groups, 1,
            )  # fmt: skip
            product(
                work.unit_bar, 0, work.linear, at, N, work.turned,
                (l - 1) * H * H, plan.inner, 0, 1, H, groups, 1,
            )  # fmt: skip
    done = 0
    for run in range(plan.first_runs[i], plan.first_runs[i + 1]):
        size = plan.runs[2, run]
        outer(
            work.sums, done * H * LANES, x, x_at + plan.runs[0, run] * N, work.linear,
            0, N, size, H, groups, 1,
        )  # fmt: skip
        done += size


@compiled
def fold_sums(plan: Plan, work: Workspace, i: int, grad: Weights) -> None:
    """Add the sums of column ``i`` to the gradients."""
    C, L, H, O = plan.num_columns, plan.layers, plan.hidden, plan.outputs
    hidden, last, bias, last_bias, _ = _places(plan, i)
    if plan.reads[i] > 0:
        start = plan.runs[1, plan.first_runs[i]]
        fold(work.sums, 0, grad.first, start, plan.reads[i] * H)
    fold(work.sums, bias * LANES, grad.first_bias, i * H, H)
    for l in range(1, L):
        before = (l - 1) * C + i
        sums = hidden + (l - 1) * H * H
        fold(work.sums, sums * LANES, grad.hidden, before * H * H, H * H)
        fold(work.sums, (bias + l * H) * LANES, grad.hidden_bias, before * H, H)
    fold(work.sums, last * LANES, grad.last, i * H * O, H * O)
    fold(work.sums, last_bias * LANES, grad.last_bias, i * O, O)


@compiled
def _places(plan: Plan, i: int) -> tuple[int, int, int, int, int]:
    """Where sums begin: hidden weights, last ones, biases, last biases, and the end."""
    L, H, O = plan.layers, plan.hidden, plan.outputs
    hidden = plan.reads[i] * H
    last = hidden + (L - 1) * H * H
    bias = last + H * O
    last_bias = bias + L * H
    return hidden, last, bias, last_bias, last_bias + O

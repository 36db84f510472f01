"""This file holds the cubic form of a node's trace, which few and small blocks take.

With S = W_1 G_L W_L and slopes d_l (`trace.py`), for four layers

    tr = sum_bc d_2[b] d_3[c] sum_a C[b, c, a] d_1[a],
    C[b, c, a] = S[a, c] W_2[b, a] W_3[c, b].

With a residual connection b and c have one more value, which goes past the layer and
has slope 1. C is tabulated once per solve, in both layouts: `Tables.start` is [a, bc]
and `Tables.close` [bc, a].
"""

import numpy as np

from ...kernels.block_product import product
from ...kernels.lane_sums import fold
from ...kernels.lanes import Floats
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, compiled, load, splat, store
from .arrays import Gradients, NodeTrace, Tables, Workspace
from .plan import Network, outer_blocks

__all__ = ["add_cubic", "adjoint_cubic", "adjoint_cubic_table", "fill_cubic"]


@compiled
def fill_cubic(net: Network, tab: Tables, i: int, at: int, gate: int) -> None:
    """Compute C of node i in both layouts, in the block that begins at ``at``."""
    h = net.hidden[i + 1] - net.hidden[i]
    width = h + net.residual
    columns = width * width
    second = net.diagonal[1, 1, i]
    third = net.diagonal[2, 1, i]
    _begin(net, tab, i, gate, tab.start, at)
    for b in range(h):
        left = second + b * h
        for c in range(h):
            right = tab.weights[third + c * h + b]
            begin = at + c * h
            to = at + (b * width + c) * h
            for a in range(h):
                tab.close[to + a] = tab.start[begin + a] * tab.weights[left + a] * right
    if net.residual == 1:
        for b in range(h):
            for a in range(h):
                begin = tab.start[at + b * h + a]
                past_third = begin * tab.weights[second + b * h + a]
                past_second = begin * tab.weights[third + b * h + a]
                tab.close[at + (b * width + h) * h + a] = past_third
                tab.close[at + (h * width + b) * h + a] = past_second
            past_both = tab.start[at + b * h + b]
            tab.close[at + (columns - 1) * h + b] = past_both
    for a in range(h):
        into = tab.start[at + a * columns : at + (a + 1) * columns]
        source = tab.close[at + a : at + columns * h]
        for k in range(columns):
            into[k] = source[k * h]


@compiled
def _begin(
    net: Network, tab: Tables, i: int, gate: int, out: Floats, out_at: int
) -> None:
    """Compute S of the closed form, transposed: S[a, c] at place c h + a."""
    h, s, first, final = outer_blocks(net, i)
    for k in range(h * h):
        out[out_at + k] = np.float32(0.0)
    # slices, as only their indices are known not to be negative, which lets loops be
    # vectors
    for j in range(s):
        left = tab.turned[first + j * h : first + (j + 1) * h]
        for c in range(h):
            factor = tab.gates[gate + j] * tab.weights[final + j * h + c]
            into = out[out_at + c * h : out_at + (c + 1) * h]
            for a in range(h):
                into[a] += factor * left[a]


@compiled
def adjoint_cubic_table(
    net: Network, tab: Tables, grad: Gradients, i: int, at: int, gate: int,
    scratch: Floats,
) -> None:  # fmt: skip
    """Carry the cotangents of C on to S (into ``grad.start``) and the middle layers."""
    h = net.hidden[i + 1] - net.hidden[i]
    width = h + net.residual
    columns = width * width
    second = net.diagonal[1, 1, i]
    third = net.diagonal[2, 1, i]
    begins, bars = 0, h * h
    _begin(net, tab, i, gate, scratch, begins)
    for k in range(h * h):
        scratch[bars + k] = np.float32(0.0)
    for b in range(h):
        left = tab.weights[second + b * h : second + (b + 1) * h]
        left_bar = grad.weights[second + b * h : second + (b + 1) * h]
        for c in range(h):
            right = tab.weights[third + c * h + b]
            begin = scratch[begins + c * h : begins + (c + 1) * h]
            begin_bar = scratch[bars + c * h : bars + (c + 1) * h]
            here = at + (b * width + c) * h
            cotangent = grad.close[here : here + h]
            total = np.float32(0.0)
            for a in range(h):
                both = cotangent[a] * begin[a]
                begin_bar[a] += cotangent[a] * left[a] * right
                left_bar[a] += both * right
                total += both * left[a]
            grad.weights[third + c * h + b] += total
    if net.residual == 1:
        for b in range(h):
            for a in range(h):
                begin_value = scratch[begins + b * h + a]
                past_third = grad.close[at + (b * width + h) * h + a]
                past_second = grad.close[at + (h * width + b) * h + a]
                grad.weights[second + b * h + a] += past_third * begin_value
                grad.weights[third + b * h + a] += past_second * begin_value
                scratch[bars + b * h + a] += (
                    past_third * tab.weights[second + b * h + a]
                    + past_second * tab.weights[third + b * h + a]
                )
            scratch[bars + b * h + b] += grad.close[at + (columns - 1) * h + b]
    for a in range(h):
        for c in range(h):
            grad.start[at + a * h + c] = scratch[bars + c * h + a]


@compiled
def add_cubic(net: Network, tab: Tables, work: Workspace, here: NodeTrace) -> None:
    """Add a node's weighted trace to its log-determinants."""
    N = here.groups * LANES
    H = here.all_hidden
    top, h, groups = here.top, here.hidden, here.groups
    width = h + net.residual
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, here.table,
        net.table_blocks, here.node, here.node + 1, here.columns, groups, 0,
    )  # fmt: skip
    for g in range(groups):
        total = splat(0.0)
        for b in range(width):
            inner = splat(0.0)
            for c in range(h):
                slope = load(work.slope, (2 * H + top + c) * N + g * LANES)
                at = (b * width + c) * N + g * LANES
                inner = inner + slope * load(work.raw, at)
            if net.residual == 1:
                inner = inner + load(work.raw, (b * width + h) * N + g * LANES)
            if b < h:
                inner = inner * load(work.slope, (H + top + b) * N + g * LANES)
            total = total + inner
        to = here.at + g * LANES
        store(here.log_det, to, load(here.log_det, to) + total * here.weight)


@compiled
def adjoint_cubic(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, here: NodeTrace
) -> None:
    """Write the slopes' cotangents of a node, and add those of C."""
    N = here.groups * LANES
    H = here.all_hidden
    top, h, groups = here.top, here.hidden, here.groups
    width = h + net.residual
    columns = here.columns
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, here.table,
        net.table_blocks, here.node, here.node + 1, columns, groups, 0,
    )  # fmt: skip
    for g in range(groups):
        lam = load(here.log_det, here.at + g * LANES) * here.weight
        for c in range(h):
            store(work.slope_bar, (2 * H + top + c) * N + g * LANES, splat(0.0))
        for b in range(width):
            left = lam
            if b < h:
                left = lam * load(work.slope, (H + top + b) * N + g * LANES)
            inner = splat(0.0)
            for c in range(h):
                at = (b * width + c) * N + g * LANES
                to = (2 * H + top + c) * N + g * LANES
                slope = load(work.slope, to)
                value = load(work.raw, at)
                inner = inner + slope * value
                store(work.bar, at, left * slope)
                store(work.slope_bar, to, load(work.slope_bar, to) + left * value)
            if net.residual == 1:
                at = (b * width + h) * N + g * LANES
                inner = inner + load(work.raw, at)
                store(work.bar, at, left)
            if b < h:
                store(work.slope_bar, (H + top + b) * N + g * LANES, lam * inner)
    product(
        work.slope_bar, top * N, work.bar, 0, N, tab.close, here.table,
        net.column_blocks, here.node, here.node + 1, h, groups, 0,
    )  # fmt: skip
    if here.learn == 1:
        outer(work.acc, 0, work.bar, 0, work.slope, top * N, N, columns, h, groups, 0)
        fold(work.acc, 0, grad.close, here.table, columns * h)

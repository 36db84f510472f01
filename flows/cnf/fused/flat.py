"""This file holds the traces of fields with at most three layers, which are tables.

No product is left in the chain of a node (`trace.py`): its trace is bilinear in the
slopes, or linear with two layers,

    open    tr = sum_km C[k, m] d_1[m],
    closed  tr = sum_k d_2[k] sum_m C[k, m] d_1[m],        C[k, m] = E[k, m] S[m, k].

With a residual connection the closed form adds sum_m S[m, m] d_1[m]. `Tables.start`
holds C as [m, k] and `Tables.close` as [k, m].
"""

import numpy as np

from ...kernels.block_product import product
from ...kernels.lane_sums import fold
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, inlined, load, splat, store
from .arrays import Gradients, NodeTrace, Tables, Workspace
from .plan import CLOSED, Network, outer_blocks

__all__ = ["add_flat", "adjoint_flat", "adjoint_flat_table", "flatten"]


@inlined
def flatten(net: Network, tab: Tables, i: int, time: int, at: int) -> None:
    """Put C of node i at the place of its S and E, which begin at ``at``."""
    h = net.hidden[i + 1] - net.hidden[i]
    c = net.columns[i]
    if net.residual == 1 and net.form[i] == CLOSED:
        diagonal = time * net.hidden[net.num_nodes] + net.hidden[i]
        for m in range(h):
            tab.trace[diagonal + m] = tab.start[at + m * c + m]
    for k in range(c):
        for m in range(h):
            both = tab.close[at + k * h + m] * tab.start[at + m * c + k]
            tab.close[at + k * h + m] = both
            tab.start[at + m * c + k] = both


@inlined
def adjoint_flat_table(
    net: Network, tab: Tables, grad: Gradients, i: int, time: int, at: int, gate: int
) -> None:
    """Carry the cotangents of C on to S and E: recover both, then the product rule."""
    h, s, first, final = outer_blocks(net, i)
    c = net.columns[i]
    middle = net.diagonal[net.num_layers - 2, 1, i]
    for p in range(h):
        for k in range(c):
            start = np.float32(0.0)
            if net.form[i] == CLOSED:
                for j in range(s):
                    start += (
                        tab.weights[first + p * s + j]
                        * tab.gates[gate + j]
                        * tab.weights[final + j * h + k]
                    )
                close = tab.weights[middle + k * h + p]
            else:
                start = tab.weights[first + p * s + k]
                close = tab.gates[gate + k] * tab.weights[final + k * h + p]
            bar = grad.close[at + k * h + p]
            grad.close[at + k * h + p] = bar * start
            grad.start[at + p * c + k] = bar * close
    if net.residual == 1 and net.form[i] == CLOSED:
        diagonal = time * net.hidden[net.num_nodes] + net.hidden[i]
        for m in range(h):
            grad.start[at + m * c + m] += grad.trace[diagonal + m]


@inlined
def adjoint_flat(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, here: NodeTrace
) -> None:
    """Write the slopes' cotangents of a node; add those of C and of S's diagonal."""
    N = here.groups * LANES
    i, h, c, top, groups = here.node, here.hidden, here.columns, here.top, here.groups
    closed = net.form[i] == CLOSED
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, here.table,
        net.table_blocks, i, i + 1, c, groups, 0,
    )  # fmt: skip
    for k in range(c):
        for g in range(groups):
            lam = load(here.log_det, here.at + g * LANES) * here.weight
            at = k * N + g * LANES
            if closed:
                to = (here.all_hidden + top) * N + at
                store(work.slope_bar, to, lam * load(work.raw, at))
                lam = lam * load(work.slope, to)
            store(work.bar, at, lam)
    product(
        work.slope_bar, top * N, work.bar, 0, N, tab.close, here.table,
        net.column_blocks, i, i + 1, h, groups, 0,
    )  # fmt: skip
    outer(work.acc, 0, work.bar, 0, work.slope, top * N, N, c, h, groups, 0)
    fold(work.acc, 0, grad.close, here.table, c * h)
    if net.residual == 0 or not closed:
        return
    diagonal = here.time * here.all_hidden + top
    for m in range(h):
        total = splat(0.0)
        for g in range(groups):
            at = (top + m) * N + g * LANES
            lam = load(here.log_det, here.at + g * LANES) * here.weight
            bar = load(work.slope_bar, at) + lam * tab.trace[diagonal + m]
            store(work.slope_bar, at, bar)
            total = total + lam * load(work.slope, at)
        store(work.sums, m * LANES, total)
    fold(work.sums, 0, grad.trace, diagonal, h)


@inlined
def add_flat(net: Network, tab: Tables, work: Workspace, here: NodeTrace) -> None:
    """Add a node's weighted trace to its log-determinants."""
    N = here.groups * LANES
    i, c, top = here.node, here.columns, here.top
    closed = net.form[i] == CLOSED
    diagonal = here.time * here.all_hidden + top
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, here.table,
        net.table_blocks, i, i + 1, c, here.groups, 0,
    )  # fmt: skip
    for g in range(here.groups):
        total = splat(0.0)
        for k in range(c):
            at = k * N + g * LANES
            value = load(work.raw, at)
            if closed:
                value = value * load(work.slope, (here.all_hidden + top) * N + at)
            total = total + value
        if net.residual == 1 and closed:
            for m in range(here.hidden):
                slope = load(work.slope, (top + m) * N + g * LANES)
                total = total + slope * tab.trace[diagonal + m]
        to = here.at + g * LANES
        store(here.log_det, to, load(here.log_det, to) + total * here.weight)

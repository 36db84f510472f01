"""This file holds the open and the closed form of a trace as chains of matrices.

Per row N_1 = d_1 S and N_l = d_l W_l N_{l-1}, closed by E (`trace.py`): with as many
columns as the state block, up to N_{L-1}, or as many as the hidden block, up to
N_{L-2}. A residual connection adds N_{l-1} to N_l. Groups of rows are taken together
as long as one matrix of a chain stays in the first-level cache.
"""

from ...kernels.block_product import product
from ...kernels.lane_sums import fold
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, compiled, inlined, load, splat, store
from .arrays import Gradients, NodeTrace, Tables, Workspace
from .plan import CLOSED, Network

__all__ = ["add_chain", "adjoint_chain"]


@inlined
def add_chain(net: Network, tab: Tables, work: Workspace, here: NodeTrace) -> None:
    """Add a node's weighted trace to its log-determinants."""
    N = here.groups * LANES
    i, h, c = here.node, here.hidden, here.columns
    closed = net.form[i] == CLOSED
    for first in range(0, here.groups, net.batch[i]):
        count = min(net.batch[i], here.groups - first)
        stride = count * c * LANES
        level = _chain(net, tab, work, here, first, count)
        end = level * net.chain
        for g in range(count):
            total = splat(0.0)
            for k in range(c):
                inner = splat(0.0)
                at = end + (g * c + k) * LANES
                for m in range(h):
                    value = load(work.chain, at + m * stride)
                    inner = inner + value * tab.close[here.table + k * h + m]
                if closed:
                    outside = (level + 1) * here.all_hidden + here.top + k
                    slope = load(work.slope, outside * N + (first + g) * LANES)
                    inner = inner * slope
                    if net.residual == 1:
                        inner = inner + load(work.chain, at + k * stride)
                total = total + inner
            to = here.at + (first + g) * LANES
            store(here.log_det, to, load(here.log_det, to) + total * here.weight)


@compiled
def _chain(
    net: Network, tab: Tables, work: Workspace, here: NodeTrace, first: int, count: int
) -> int:
    """Compute N_1 .. N_top and W_l N_{l-1} of ``count`` groups; return top - 1."""
    N = here.groups * LANES
    i, h, c = here.node, here.hidden, here.columns
    levels: int = net.num_layers - 1 - int(net.form[i] == CLOSED)
    stride = count * c * LANES
    for p in range(h):
        for g in range(count):
            slope = load(work.slope, (here.top + p) * N + (first + g) * LANES)
            to = p * stride + g * c * LANES
            for j in range(c):
                value = slope * tab.start[here.table + p * c + j]
                store(work.chain, to + j * LANES, value)
    for l in range(1, levels):
        now = l * net.chain
        before = now - net.chain
        product(
            work.raw, now, work.chain, before, stride, tab.turned, 0,
            net.diagonal[l], i, i + 1, h, count * c, 0,
        )  # fmt: skip
        for p in range(h):
            feature = l * here.all_hidden + here.top + p
            for g in range(count):
                slope = load(work.slope, feature * N + (first + g) * LANES)
                to = p * stride + g * c * LANES
                for j in range(c):
                    at = to + j * LANES
                    value = slope * load(work.raw, now + at)
                    if net.residual == 1:
                        value = value + load(work.chain, before + at)
                    store(work.chain, now + at, value)
    return levels - 1


@inlined
def adjoint_chain(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, here: NodeTrace
) -> None:
    """Write the slopes' cotangents of a node, and add those of S, E and the weights.

    Sums over rows stand in ``work.acc``: E's, S's, and one weight block per level.
    """
    i, h, c = here.node, here.hidden, here.columns
    cells = h * c * LANES
    levels = net.num_layers - 2 - int(net.form[i] == CLOSED)
    block = h * h * LANES
    for at in range(0, 2 * cells + levels * block, LANES):
        store(work.acc, at, splat(0.0))
    for first in range(0, here.groups, net.batch[i]):
        count = min(net.batch[i], here.groups - first)
        stride = count * c * LANES
        level = _chain(net, tab, work, here, first, count)
        _adjoint_close(net, tab, work, here, first, count, level)
        for back in range(level):
            l = level - back
            before = (l - 1) * net.chain
            _adjoint_slopes(net, work, here, first, count, l)
            if here.learn == 1:
                outer(
                    work.acc, 2 * cells + (l - 1) * block, work.turn, 0,
                    work.chain, before, stride, h, h, count * c, 1,
                )  # fmt: skip
            product(
                work.bar, 0, work.turn, 0, stride, tab.weights, 0,
                net.diagonal[l], i, i + 1, h, count * c, net.residual,
            )  # fmt: skip
        _adjoint_start(tab, work, here, first, count)
    fold(work.acc, 0, grad.close, here.table, h * c)
    fold(work.acc, cells, grad.start, here.table, h * c)
    for l in range(1, levels * here.learn + 1):
        fold(
            work.acc, 2 * cells + (l - 1) * block, grad.weights,
            net.diagonal[l, 1, i], h * h,
        )  # fmt: skip


@inlined
def _adjoint_close(
    net: Network, tab: Tables, work: Workspace, here: NodeTrace, first: int, count: int,
    level: int,
) -> None:  # fmt: skip
    """Begin the cotangents of a chain, at its end; add those of E."""
    N = here.groups * LANES
    h, c = here.hidden, here.columns
    closed = net.form[here.node] == CLOSED
    stride = count * c * LANES
    end = level * net.chain
    for g in range(count):
        lam = load(here.log_det, here.at + (first + g) * LANES) * here.weight
        for k in range(c):
            at = (g * c + k) * LANES
            outside = (level + 1) * here.all_hidden + here.top + k
            to = outside * N + (first + g) * LANES
            bar = lam
            if closed:
                bar = lam * load(work.slope, to)
            inner = splat(0.0)
            for m in range(h):
                value = load(work.chain, end + at + m * stride)
                factor = tab.close[here.table + k * h + m]
                store(work.bar, at + m * stride, bar * factor)
                inner = inner + value * factor
                cell = (k * h + m) * LANES
                store(work.acc, cell, load(work.acc, cell) + bar * value)
            if closed:
                store(work.slope_bar, to, lam * inner)
                if net.residual == 1:
                    cell = at + k * stride
                    store(work.bar, cell, load(work.bar, cell) + lam)


@inlined
def _adjoint_slopes(
    net: Network, work: Workspace, here: NodeTrace, first: int, count: int, l: int
) -> None:
    """Write the cotangents of layer l's slopes, and those of W_l N_{l-1}."""
    N = here.groups * LANES
    c = here.columns
    stride = count * c * LANES
    now = l * net.chain
    for m in range(here.hidden):
        feature = l * here.all_hidden + here.top + m
        for g in range(count):
            to = feature * N + (first + g) * LANES
            slope = load(work.slope, to)
            total = splat(0.0)
            for j in range(c):
                at = m * stride + (g * c + j) * LANES
                bar = load(work.bar, at)
                total = total + bar * load(work.raw, now + at)
                store(work.turn, at, slope * bar)
            store(work.slope_bar, to, total)


@inlined
def _adjoint_start(
    tab: Tables, work: Workspace, here: NodeTrace, first: int, count: int
) -> None:
    """Write the cotangents of the first slopes, and add those of S."""
    N = here.groups * LANES
    h, c = here.hidden, here.columns
    for p in range(h):
        for g in range(count):
            to = (here.top + p) * N + (first + g) * LANES
            slope = load(work.slope, to)
            total = splat(0.0)
            for j in range(c):
                bar = load(work.bar, (p * count * c + g * c + j) * LANES)
                total = total + bar * tab.start[here.table + p * c + j]
                cell = (h * c + p * c + j) * LANES
                store(work.acc, cell, load(work.acc, cell) + bar * slope)
            store(work.slope_bar, to, total)

"""This file computes the divergence of each node, with its adjoint, in the kernel.

Let d_l = gate_l (1 - tanh^2) be the slopes of a hidden layer. The divergence of node i
is, with the diagonal blocks of node i,

    tr( G_L W_L (d_{L-1} W_{L-1}) ... (d_2 W_2) d_1 W_1 ),

G_L being the last layer's gate, which depends on time only. Whatever depends on time
only is tabulated once per solve. The trace is a chain of matrices with c columns,
N_1 = d_1 S and N_l = d_l W_l N_{l-1}, closed by E. It has three forms; a node takes the
cheapest:

    open     S = W_1, N_1 .. N_{L-1}, E = G_L W_L,
             tr = sum_km E[k, m] N[m, k];
    closed   S = W_1 G_L W_L, N_1 .. N_{L-2}, E = W_{L-1},
             tr = sum_k d_{L-1}[k] sum_m E[k, m] N[m, k]     (a trace is cyclic),
    cubic    L = 4, S as in the closed form, C[b, c, a] = S[a, c] W_2[b, a] W_3[c, b],
             tr = sum_bc d_2[b] d_3[c] sum_a C[b, c, a] d_1[a].

The open form has as many columns as the state block, the closed one as many as the
hidden block but one product less. With L <= 3 no product is left ("flat"): the trace
is bilinear in the slopes, and C[k, m] = E[k, m] S[m, k] is tabulated. A residual
connection adds N_{l-1} to N_l; in the cubic form b and c have one more value, which
goes past the layer and has slope 1.

The cubic form multiplies as often as the closed one, but keeps no matrices per row: it
is one product with a table, which small blocks can afford.

References:
    Weilbach et al., AISTATS 2020, section 3 (the structure that makes it exact).
"""

import numpy as np

from .plan import CLOSED, CUBIC, Floats, Network
from .products import fold, outer, product
from .tables import Gradients, Tables, Workspace
from .tiles import LANES, compiled, load, splat, store

__all__ = ["add_traces", "adjoint_traces"]


@compiled
def add_traces(
    net: Network,
    tab: Tables,
    work: Workspace,
    time: int,
    weight: np.float32,
    log_det: Floats,
    log_det_at: int,
    groups: int,
) -> None:
    """Add ``weight`` times each node's trace to ``log_det``."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    M = net.table[net.num_nodes]
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        c = net.columns[i]
        table = time * M + net.table[i]
        if net.form[i] == CUBIC:
            _add_cubic(
                net, tab, work, i, table, weight, log_det, log_det_at + i * N, groups
            )
            continue
        if net.num_layers <= 3:
            product(
                work.raw, 0, work.slope, top * N, N, tab.start, table,
                net.table_blocks, i, i + 1, c, groups, 0,
            )  # fmt: skip
            for g in range(groups):
                total = splat(0.0)
                for k in range(c):
                    value = load(work.raw, k * N + g * LANES)
                    if net.form[i] == CLOSED:
                        value = value * load(work.slope, (H + top + k) * N + g * LANES)
                    total = total + value
                if net.residual == 1 and net.form[i] == CLOSED:
                    for m in range(h):
                        slope = load(work.slope, (top + m) * N + g * LANES)
                        total = total + slope * tab.trace[time * H + top + m]
                to = log_det_at + i * N + g * LANES
                store(log_det, to, load(log_det, to) + total * weight)
            continue
        for first in range(0, groups, net.batch[i]):
            count = min(net.batch[i], groups - first)
            stride = count * c * LANES
            level = _chain(net, tab, work, i, time, first, count, groups)
            end = level * net.chain
            for g in range(count):
                total = splat(0.0)
                for k in range(c):
                    inner = splat(0.0)
                    at = end + (g * c + k) * LANES
                    for m in range(h):
                        inner = inner + (
                            load(work.chain, at + m * stride)
                            * tab.close[table + k * h + m]
                        )
                    if net.form[i] == CLOSED:
                        outside = load(
                            work.slope,
                            ((level + 1) * H + top + k) * N + (first + g) * LANES,
                        )
                        inner = inner * outside
                        if net.residual == 1:
                            inner = inner + load(work.chain, at + k * stride)
                    total = total + inner
                to = log_det_at + i * N + (first + g) * LANES
                store(log_det, to, load(log_det, to) + total * weight)


@compiled
def _add_cubic(
    net: Network,
    tab: Tables,
    work: Workspace,
    i: int,
    table: int,
    weight: np.float32,
    log_det: Floats,
    log_det_at: int,
    groups: int,
) -> None:
    """Add ``weight`` times the trace of node i in the cubic form."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    top = net.hidden[i]
    h = net.hidden[i + 1] - top
    width = h + net.residual
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, table,
        net.table_blocks, i, i + 1, width * width, groups, 0,
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
        to = log_det_at + g * LANES
        store(log_det, to, load(log_det, to) + total * weight)


@compiled
def _adjoint_cubic(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    learn: int,
    i: int,
    table: int,
    weight: np.float32,
    log_det_bar: Floats,
    lam_at: int,
    groups: int,
) -> None:
    """Write the slopes' cotangents of node i, and add those of C."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    top = net.hidden[i]
    h = net.hidden[i + 1] - top
    width = h + net.residual
    columns = width * width
    product(
        work.raw, 0, work.slope, top * N, N, tab.start, table,
        net.table_blocks, i, i + 1, columns, groups, 0,
    )  # fmt: skip
    for g in range(groups):
        lam = load(log_det_bar, lam_at + g * LANES) * weight
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
        work.slope_bar, top * N, work.bar, 0, N, tab.close, table,
        net.column_blocks, i, i + 1, h, groups, 0,
    )  # fmt: skip
    if learn == 1:
        outer(work.acc, 0, work.bar, 0, work.slope, top * N, N, columns, h, groups, 0)
        fold(work.acc, 0, grad.close, table, columns * h)


@compiled
def _chain(
    net: Network,
    tab: Tables,
    work: Workspace,
    i: int,
    time: int,
    first: int,
    count: int,
    groups: int,
) -> int:
    """Compute N_1 .. N_top and W_l N_{l-1} of node i; return top - 1."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    top = net.hidden[i]
    h = net.hidden[i + 1] - top
    c = net.columns[i]
    levels: int = net.num_layers - 1 - int(net.form[i] == CLOSED)
    table = time * net.table[net.num_nodes] + net.table[i]
    stride = count * c * LANES
    for p in range(h):
        for g in range(count):
            slope = load(work.slope, (top + p) * N + (first + g) * LANES)
            to = p * stride + g * c * LANES
            for j in range(c):
                value = slope * tab.start[table + p * c + j]
                store(work.chain, to + j * LANES, value)
    for l in range(1, levels):
        here = l * net.chain
        before = here - net.chain
        product(
            work.raw, here, work.chain, before, stride, tab.turned, 0,
            net.diagonal[l], i, i + 1, h, count * c, 0,
        )  # fmt: skip
        for p in range(h):
            for g in range(count):
                slope = load(work.slope, (l * H + top + p) * N + (first + g) * LANES)
                to = p * stride + g * c * LANES
                for j in range(c):
                    at = to + j * LANES
                    value = slope * load(work.raw, here + at)
                    if net.residual == 1:
                        value = value + load(work.chain, before + at)
                    store(work.chain, here + at, value)
    return levels - 1


@compiled
def adjoint_traces(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    learn: int,
    time: int,
    weight: np.float32,
    log_det_bar: Floats,
    log_det_at: int,
    groups: int,
) -> None:
    """Write the slopes' cotangents, and add those of the trace's weights and tables.

    With ``learn`` 0 what is added to `Gradients` is without meaning.
    """
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    M = net.table[net.num_nodes]
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        c = net.columns[i]
        closed = net.form[i] == CLOSED
        table = time * M + net.table[i]
        lam_at = log_det_at + i * N
        if net.form[i] == CUBIC:
            _adjoint_cubic(
                net, tab, work, grad, learn, i, table, weight, log_det_bar, lam_at,
                groups,
            )  # fmt: skip
            continue
        if net.num_layers <= 3:
            product(
                work.raw, 0, work.slope, top * N, N, tab.start, table,
                net.table_blocks, i, i + 1, c, groups, 0,
            )  # fmt: skip
            for k in range(c):
                for g in range(groups):
                    lam = load(log_det_bar, lam_at + g * LANES) * weight
                    at = k * N + g * LANES
                    if closed:
                        to = (H + top) * N + at
                        store(work.slope_bar, to, lam * load(work.raw, at))
                        lam = lam * load(work.slope, to)
                    store(work.bar, at, lam)
            product(
                work.slope_bar, top * N, work.bar, 0, N, tab.close, table,
                net.column_blocks, i, i + 1, h, groups, 0,
            )  # fmt: skip
            outer(work.acc, 0, work.bar, 0, work.slope, top * N, N, c, h, groups, 0)
            fold(work.acc, 0, grad.close, table, c * h)
            if net.residual == 1 and closed:
                for m in range(h):
                    total = splat(0.0)
                    for g in range(groups):
                        at = (top + m) * N + g * LANES
                        lam = load(log_det_bar, lam_at + g * LANES) * weight
                        factor = tab.trace[time * H + top + m]
                        bar = load(work.slope_bar, at) + lam * factor
                        store(work.slope_bar, at, bar)
                        total = total + lam * load(work.slope, at)
                    store(work.sums, m * LANES, total)
                fold(work.sums, 0, grad.trace, time * H + top, h)
            continue
        cells = h * c * LANES
        levels = net.num_layers - 2 - int(closed)
        close_acc = 0
        start_acc = cells
        weight_acc = 2 * cells
        for at in range(0, weight_acc + levels * h * h * LANES, LANES):
            store(work.acc, at, splat(0.0))
        for first in range(0, groups, net.batch[i]):
            count = min(net.batch[i], groups - first)
            stride = count * c * LANES
            level = _chain(net, tab, work, i, time, first, count, groups)
            end = level * net.chain
            for g in range(count):
                lam = load(log_det_bar, lam_at + (first + g) * LANES) * weight
                for k in range(c):
                    at = (g * c + k) * LANES
                    to = ((level + 1) * H + top + k) * N + (first + g) * LANES
                    bar = lam
                    if closed:
                        bar = lam * load(work.slope, to)
                    inner = splat(0.0)
                    for m in range(h):
                        value = load(work.chain, end + at + m * stride)
                        factor = tab.close[table + k * h + m]
                        store(work.bar, at + m * stride, bar * factor)
                        inner = inner + value * factor
                        cell = close_acc + (k * h + m) * LANES
                        store(work.acc, cell, load(work.acc, cell) + bar * value)
                    if closed:
                        store(work.slope_bar, to, lam * inner)
                        if net.residual == 1:
                            cell = at + k * stride
                            store(work.bar, cell, load(work.bar, cell) + lam)
            for back in range(level):
                l = level - back
                here = l * net.chain
                for m in range(h):
                    for g in range(count):
                        to = (l * H + top + m) * N + (first + g) * LANES
                        slope = load(work.slope, to)
                        total = splat(0.0)
                        for j in range(c):
                            at = m * stride + (g * c + j) * LANES
                            bar = load(work.bar, at)
                            total = total + bar * load(work.raw, here + at)
                            store(work.turn, at, slope * bar)
                        store(work.slope_bar, to, total)
                if learn == 1:
                    outer(
                        work.acc, weight_acc + (l - 1) * h * h * LANES, work.turn, 0,
                        work.chain, here - net.chain, stride, h, h, count * c, 1,
                    )  # fmt: skip
                product(
                    work.bar, 0, work.turn, 0, stride, tab.weights, 0,
                    net.diagonal[l], i, i + 1, h, count * c, net.residual,
                )  # fmt: skip
            for p in range(h):
                for g in range(count):
                    to = (top + p) * N + (first + g) * LANES
                    slope = load(work.slope, to)
                    total = splat(0.0)
                    for j in range(c):
                        bar = load(work.bar, p * stride + (g * c + j) * LANES)
                        total = total + bar * tab.start[table + p * c + j]
                        cell = start_acc + (p * c + j) * LANES
                        store(work.acc, cell, load(work.acc, cell) + bar * slope)
                    store(work.slope_bar, to, total)
        fold(work.acc, close_acc, grad.close, table, h * c)
        fold(work.acc, start_acc, grad.start, table, h * c)
        for l in range(1, levels * learn + 1):
            fold(
                work.acc, weight_acc + (l - 1) * h * h * LANES, grad.weights,
                net.diagonal[l, 1, i], h * h,
            )  # fmt: skip

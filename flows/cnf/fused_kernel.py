"""This file solves the structured flow and its discrete adjoint on packed blocks.

A pack is rows of one direction, 16 to a group; its arrays are [feature, group, lane].
Let d_l = gate_l (1 - tanh^2) be the slopes of a hidden layer. The divergence of node i
is, with the diagonal blocks of node i,

    tr( G_L W_L (d_{L-1} W_{L-1}) ... (d_2 W_2) d_1 W_1 ),

G_L being the last layer's gate, which depends on time only. Whatever depends on time
only is tabulated once per solve. The trace is a chain N_1 = d_1 S and N_l = d_l W_l
N_{l-1} of matrices with c columns, closed by E. It has two forms; a node takes the cheaper one:

    open     S = W_1, N_1 .. N_{L-1}, E = G_L W_L,
             tr = sum_km E[k, m] N[m, k];
    closed   S = W_1 G_L W_L, N_1 .. N_{L-2}, E = W_{L-1},
             tr = sum_k d_{L-1}[k] sum_m E[k, m] N[m, k]     (a trace is cyclic).

The open form has as many columns as the state block, the closed one as many as the
hidden block but one product less. With L <= 3 no product is left ("flat"): the trace
is bilinear in the slopes, and C[k, m] = E[k, m] S[m, k] is tabulated. A residual
connection adds N_{l-1} to N_l.

The solver is the classical Runge-Kutta method of order 4 with equal steps. The adjoint
is that of the discrete scheme: stage inputs are kept, all else is computed again.
Weights' gradients are summed over lanes within a pack and a stage; sums run in a fixed
order, so equal inputs give equal bits.

References:
    Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I", II.1.
    Weilbach et al., AISTATS 2020, section 3.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fused_tiles import LANES, compiled, fold, load, outer, product, splat, store, tanh

__all__ = [
    "Gradients",
    "Network",
    "Tables",
    "Workspace",
    "adjoint_pack",
    "adjoint_tables",
    "fill_tables",
    "solve_pack",
]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Network(NamedTuple):
    """Where the blocks are: all that does not change while a flow is trained.

    Args:
        num_nodes: number of nodes.
        num_layers: number L of layers.
        residual: 1 with residual connections between hidden layers, else 0.
        state: first state feature of each node, and their number.
        hidden: first hidden feature of each node, and their number.
        columns: c of each node.
        closed: 1 for the closed form of a node's trace, else 0.
        table: offset of each node's block in a table row, and a row's size.
        batch: groups whose chains are computed together, per node.
        rows: first block of each row, and the number of blocks of a layer.
        forward: [layer, (feature, offset, size), block] in row order.
        cols: first block of each column in column order.
        backward: [layer, (feature, offset, size), block] in column order.
        diagonal: [layer, (0, offset, size), node], for forward products.
        table_blocks: (0, 0, size) per node, contraction over hidden features.
        column_blocks: (0, 0, size) per node, contraction over c.
        given: (feature, offset, size) per node, of its observed columns.
        chain: size of a buffer for one matrix of a chain.
    """

    num_nodes: int
    num_layers: int
    residual: int
    state: Integers
    hidden: Integers
    columns: Integers
    closed: Integers
    table: Integers
    batch: Integers
    rows: Integers
    forward: NDArray[np.int64]
    cols: Integers
    backward: NDArray[np.int64]
    diagonal: NDArray[np.int64]
    table_blocks: NDArray[np.int64]
    column_blocks: NDArray[np.int64]
    given: NDArray[np.int64]
    chain: int


class Tables(NamedTuple):
    """Parameters, and what depends on them and on time only.

    Args:
        weights: packed blocks of all layers, [output, input] each.
        turned: the same, [input, output] each.
        given: observed blocks, [column, output].
        bias: of all layers.
        gates: sigmoid(g t + k), [time, feature of all layers].
        drifts: c t, likewise.
        start: S of all nodes, [time, table].
        close: E of all nodes (flat: C in both layouts), [time, table].
        trace: residual and flat: diagonal of S, [time, hidden feature].
    """

    weights: Floats
    turned: Floats
    given: Floats
    bias: Floats
    gates: Floats
    drifts: Floats
    start: Floats
    close: Floats
    trace: Floats


class Gradients(NamedTuple):
    """Sums of cotangents, in the layouts of `Tables`.

    Args:
        weights: packed, [output, input].
        given: observed blocks, [output, column].
        gates: [time, feature].
        drifts: [time, feature]; the bias follows from it.
        start: of S, [time, table].
        close: of E, or of C when flat, [time, table].
        trace: of the diagonal of S, [time, hidden feature].
    """

    weights: Floats
    given: Floats
    gates: Floats
    drifts: Floats
    start: Floats
    close: Floats
    trace: Floats


class Workspace(NamedTuple):
    """Scratch arrays of one thread; contents mean nothing between calls."""

    base: Floats
    linear: Floats
    tanh: Floats
    unit: Floats
    slope: Floats
    velocity: Floats
    total: Floats
    slope_bar: Floats
    alpha: Floats
    unit_bar: Floats
    stage_bar: Floats
    first_bar: Floats
    chain: Floats
    raw: Floats
    bar: Floats
    turn: Floats
    acc: Floats
    sums: Floats


@compiled
def fill_tables(net: Network, tab: Tables, num_times: int) -> None:
    """Compute S and E (or C) of all nodes at all times."""
    L = net.num_layers
    H = net.hidden[net.num_nodes]
    F = tab.bias.size
    M = net.table[net.num_nodes]
    last = (L - 1) * H
    for time in range(num_times):
        for i in range(net.num_nodes):
            h = net.hidden[i + 1] - net.hidden[i]
            s = net.state[i + 1] - net.state[i]
            c = net.columns[i]
            at = time * M + net.table[i]
            gate = time * F + last + net.state[i]
            first = net.diagonal[0, 1, i]
            final = net.diagonal[L - 1, 1, i]
            if net.closed[i] == 1:
                for p in range(h):
                    for k in range(h):
                        tab.start[at + p * c + k] = np.float32(0.0)
                    for j in range(s):
                        left = tab.weights[first + p * s + j] * tab.gates[gate + j]
                        for k in range(h):
                            tab.start[at + p * c + k] += (
                                left * tab.weights[final + j * h + k]
                            )
                middle = net.diagonal[L - 2, 1, i]
                for k in range(h * h):
                    tab.close[at + k] = tab.weights[middle + k]
            else:
                for k in range(h * s):
                    tab.start[at + k] = tab.weights[first + k]
                for j in range(s):
                    for m in range(h):
                        tab.close[at + j * h + m] = (
                            tab.gates[gate + j] * tab.weights[final + j * h + m]
                        )
            if L <= 3:
                if net.residual == 1 and net.closed[i] == 1:
                    for m in range(h):
                        tab.trace[time * H + net.hidden[i] + m] = tab.start[
                            at + m * c + m
                        ]
                for k in range(c):
                    for m in range(h):
                        both = tab.close[at + k * h + m] * tab.start[at + m * c + k]
                        tab.close[at + k * h + m] = both
                        tab.start[at + m * c + k] = both


@compiled
def adjoint_tables(
    net: Network,
    tab: Tables,
    grad: Gradients,
    num_times: int,
    scratch: Floats,
) -> None:
    """Carry the cotangents of S and E (or C) on to the weights and the gates."""
    L = net.num_layers
    H = net.hidden[net.num_nodes]
    F = tab.bias.size
    M = net.table[net.num_nodes]
    last = (L - 1) * H
    for time in range(num_times):
        for i in range(net.num_nodes):
            h = net.hidden[i + 1] - net.hidden[i]
            s = net.state[i + 1] - net.state[i]
            c = net.columns[i]
            at = time * M + net.table[i]
            gate = time * F + last + net.state[i]
            first = net.diagonal[0, 1, i]
            final = net.diagonal[L - 1, 1, i]
            middle = net.diagonal[L - 2, 1, i]
            if L <= 3:
                # C = E * S^T: recover both factors, then the product rule
                for p in range(h):
                    for k in range(c):
                        start = np.float32(0.0)
                        if net.closed[i] == 1:
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
                if net.residual == 1 and net.closed[i] == 1:
                    for m in range(h):
                        grad.start[at + m * c + m] += grad.trace[
                            time * H + net.hidden[i] + m
                        ]
            if net.closed[i] == 1:
                for k in range(h * h):
                    grad.weights[middle + k] += grad.close[at + k]
                for j in range(s):
                    for k in range(h):
                        scratch[k] = np.float32(0.0)
                    for p in range(h):
                        weight = tab.weights[first + p * s + j]
                        total = np.float32(0.0)
                        for k in range(h):
                            bar = grad.start[at + p * c + k]
                            scratch[k] += bar * weight
                            total += bar * tab.weights[final + j * h + k]
                        grad.weights[first + p * s + j] += total * tab.gates[gate + j]
                    total = np.float32(0.0)
                    for k in range(h):
                        total += scratch[k] * tab.weights[final + j * h + k]
                        grad.weights[final + j * h + k] += (
                            scratch[k] * tab.gates[gate + j]
                        )
                    grad.gates[gate + j] += total
            else:
                for k in range(h * s):
                    grad.weights[first + k] += grad.start[at + k]
                for j in range(s):
                    total = np.float32(0.0)
                    for m in range(h):
                        bar = grad.close[at + j * h + m]
                        total += bar * tab.weights[final + j * h + m]
                        grad.weights[final + j * h + m] += bar * tab.gates[gate + j]
                    grad.gates[gate + j] += total


@compiled
def _layers(
    net: Network,
    tab: Tables,
    work: Workspace,
    x: Floats,
    x_at: int,
    time: int,
    groups: int,
) -> None:
    """Evaluate the field at ``x``: linear parts, tanh, slopes, velocity."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    gate_at = time * tab.bias.size
    for l in range(net.num_layers - 1):
        for i in range(net.num_nodes):
            top = net.hidden[i]
            height = net.hidden[i + 1] - top
            out_at = (l * H + top) * N
            if l == 0:
                product(
                    work.linear, out_at, x, x_at, N, tab.turned, 0, net.forward[l],
                    net.rows[i], net.rows[i + 1], height, groups, 0,
                )  # fmt: skip
            else:
                product(
                    work.linear, out_at, work.unit, (l - 1) * H * N, N, tab.turned, 0,
                    net.forward[l], net.rows[i], net.rows[i + 1], height, groups, 0,
                )  # fmt: skip
            for r in range(top, top + height):
                f = l * H + r
                gate = tab.gates[gate_at + f]
                drift = tab.drifts[gate_at + f]
                bias = splat(tab.bias[f])
                for g in range(groups):
                    at = f * N + g * LANES
                    if l == 0:
                        bias = load(work.base, at)
                    linear = load(work.linear, at) + bias
                    store(work.linear, at, linear)
                    value = tanh(linear * gate + drift)
                    store(work.tanh, at, value)
                    store(work.slope, at, (splat(1.0) - value * value) * gate)
                    if net.residual == 1:
                        if l > 0:
                            value = value + load(work.unit, at - H * N)
                        store(work.unit, at, value)
    l = net.num_layers - 1
    for i in range(net.num_nodes):
        top = net.state[i]
        height = net.state[i + 1] - top
        product(
            work.linear, (l * H + top) * N, work.unit, (l - 1) * H * N, N, tab.turned,
            0, net.forward[l], net.rows[i], net.rows[i + 1], height, groups, 0,
        )  # fmt: skip
        for r in range(top, top + height):
            f = l * H + r
            gate = tab.gates[gate_at + f]
            drift = tab.drifts[gate_at + f]
            bias = tab.bias[f]
            for g in range(groups):
                at = f * N + g * LANES
                linear = load(work.linear, at) + bias
                store(work.linear, at, linear)
                store(work.velocity, r * N + g * LANES, linear * gate + drift)


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
    levels = net.num_layers - 1 - net.closed[i]
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
def _traces(
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
        if net.num_layers <= 3:
            product(
                work.raw, 0, work.slope, top * N, N, tab.start, table,
                net.table_blocks, i, i + 1, c, groups, 0,
            )  # fmt: skip
            for g in range(groups):
                total = splat(0.0)
                for k in range(c):
                    value = load(work.raw, k * N + g * LANES)
                    if net.closed[i] == 1:
                        value = value * load(work.slope, (H + top + k) * N + g * LANES)
                    total = total + value
                if net.residual == 1 and net.closed[i] == 1:
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
                    if net.closed[i] == 1:
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
def solve_pack(
    net: Network,
    tab: Tables,
    work: Workspace,
    state: Floats,
    state_at: int,
    given: Floats,
    given_at: int,
    log_det: Floats,
    log_det_at: int,
    tape: Floats,
    tape_at: int,
    keep: int,
    sign: int,
    num_steps: int,
    groups: int,
) -> None:
    """Carry a pack's state from start to end, and add its log-determinants.

    Args:
        net: the blocks.
        tab: parameters.
        work: scratch.
        state: [state feature, group, lane]; overwritten by the end state.
        state_at: offset.
        given: [observed column of each node, group, lane].
        given_at: offset.
        log_det: [node, group, lane]; added to.
        log_det_at: offset.
        tape: stage inputs, [stage, state feature, group, lane] (one stage if not kept).
        tape_at: offset.
        keep: 1 to keep all stage inputs for the adjoint.
        sign: +1 from base to latents, -1 back.
        num_steps: number of steps.
        groups: number of groups.
    """
    N = groups * LANES
    D = net.state[net.num_nodes]
    size = D * N
    step = np.float32(sign / num_steps)
    _base(net, tab, work, given, given_at, groups)
    for number in range(num_steps):
        for stage in range(4):
            x_at = tape_at + keep * (4 * number + stage) * size
            reach = step * np.float32(
                0.0 if stage == 0 else (1.0 if stage == 3 else 0.5)
            )
            for at in range(0, size, LANES):
                value = load(state, state_at + at)
                if stage > 0:
                    value = value + load(work.velocity, at) * reach
                store(tape, x_at + at, value)
            time = 2 * number + (stage + 1) // 2
            if sign < 0:
                time = 2 * num_steps - time
            part = step / np.float32(3.0 if stage == 1 or stage == 2 else 6.0)
            _layers(net, tab, work, tape, x_at, time, groups)
            _traces(net, tab, work, time, part, log_det, log_det_at, groups)
            for at in range(0, size, LANES):
                value = load(work.velocity, at) * part
                if stage > 0:
                    value = value + load(work.total, at)
                store(work.total, at, value)
        for at in range(0, size, LANES):
            value = load(state, state_at + at) + load(work.total, at)
            store(state, state_at + at, value)


@compiled
def _base(
    net: Network,
    tab: Tables,
    work: Workspace,
    given: Floats,
    given_at: int,
    groups: int,
) -> None:
    """First layer's part that does not change during a solve: bias and observed."""
    N = groups * LANES
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        for r in range(top, top + h):
            for g in range(groups):
                store(work.base, r * N + g * LANES, splat(tab.bias[r]))
        product(
            work.base, top * N, given, given_at, N, tab.given, 0, net.given,
            i, i + 1, h, groups, 1,
        )  # fmt: skip


@compiled
def _adjoint_traces(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    time: int,
    weight: np.float32,
    log_det_bar: Floats,
    log_det_at: int,
    groups: int,
) -> None:
    """Write the slopes' cotangents, and add those of the trace's weights and tables."""
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    M = net.table[net.num_nodes]
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        c = net.columns[i]
        closed = net.closed[i] == 1
        table = time * M + net.table[i]
        lam_at = log_det_at + i * N
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
        levels = net.num_layers - 2 - net.closed[i]
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
        for l in range(1, levels + 1):
            fold(
                work.acc, weight_acc + (l - 1) * h * h * LANES, grad.weights,
                net.diagonal[l, 1, i], h * h,
            )  # fmt: skip


@compiled
def _adjoint_layer(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    l: int,
    x: Floats,
    x_at: int,
    out: Floats,
    groups: int,
) -> None:
    """From the cotangents ``alpha`` of layer l's linear part to weights and inputs."""
    N = groups * LANES
    to_state = l == net.num_layers - 1
    from_state = l == 0
    for i in range(net.num_nodes):
        top = net.state[i] if to_state else net.hidden[i]
        end = net.state[i + 1] if to_state else net.hidden[i + 1]
        for block in range(net.rows[i], net.rows[i + 1]):
            width = net.forward[l, 2, block]
            outer(
                work.acc, 0, work.alpha, top * N,
                x, x_at + net.forward[l, 0, block] * N,
                N, end - top, width, groups, 0,
            )  # fmt: skip
            at = net.forward[l, 1, block]
            fold(work.acc, 0, grad.weights, at, (end - top) * width)
    passes = net.residual if 0 < l < net.num_layers - 1 else 0
    for j in range(net.num_nodes):
        top = net.state[j] if from_state else net.hidden[j]
        end = net.state[j + 1] if from_state else net.hidden[j + 1]
        product(
            out, top * N, work.alpha, 0, N, tab.weights, 0, net.backward[l],
            net.cols[j], net.cols[j + 1], end - top, groups, passes,
        )  # fmt: skip


@compiled
def _adjoint_field(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    x: Floats,
    x_at: int,
    time: int,
    groups: int,
) -> None:
    """From the cotangents of velocity and slopes to those of ``x`` (in velocity)."""
    N = groups * LANES
    L = net.num_layers
    H = net.hidden[net.num_nodes]
    D = net.state[net.num_nodes]
    F = tab.bias.size
    gate_at = time * F
    for r in range(D):
        f = (L - 1) * H + r
        gate = tab.gates[gate_at + f]
        to_gate = splat(0.0)
        to_drift = splat(0.0)
        for g in range(groups):
            at = r * N + g * LANES
            bar = load(work.velocity, at)
            to_gate = to_gate + bar * load(work.linear, f * N + g * LANES)
            to_drift = to_drift + bar
            store(work.alpha, at, bar * gate)
        store(work.sums, f * LANES, to_gate)
        store(work.sums, (F + f) * LANES, to_drift)
    for l in range(L - 1, 0, -1):
        before = (l - 1) * H
        _adjoint_layer(
            net, tab, work, grad, l, work.unit, before * N, work.unit_bar, groups
        )
        for r in range(H):
            f = before + r
            gate = tab.gates[gate_at + f]
            to_gate = splat(0.0)
            to_drift = splat(0.0)
            for g in range(groups):
                at = r * N + g * LANES
                value = load(work.tanh, f * N + g * LANES)
                slope_bar = load(work.slope_bar, f * N + g * LANES)
                rest = splat(1.0) - value * value
                bar = load(work.unit_bar, at) - value * slope_bar * (gate + gate)
                bar = bar * rest
                linear = load(work.linear, f * N + g * LANES)
                to_gate = to_gate + bar * linear + slope_bar * rest
                to_drift = to_drift + bar
                store(work.alpha, at, bar * gate)
            store(work.sums, f * LANES, to_gate)
            store(work.sums, (F + f) * LANES, to_drift)
    for at in range(0, H * N, LANES):
        store(work.first_bar, at, load(work.first_bar, at) + load(work.alpha, at))
    _adjoint_layer(net, tab, work, grad, 0, x, x_at, work.velocity, groups)
    fold(work.sums, 0, grad.gates, gate_at, F)
    fold(work.sums, F * LANES, grad.drifts, gate_at, F)


@compiled
def adjoint_pack(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    state_bar: Floats,
    state_at: int,
    given: Floats,
    given_at: int,
    log_det_bar: Floats,
    log_det_at: int,
    tape: Floats,
    tape_at: int,
    sign: int,
    num_steps: int,
    groups: int,
) -> None:
    """Carry cotangents of a pack's end to its start, and add the parameters'.

    ``state_bar`` is overwritten by the cotangents of the start; all else as in
    `solve_pack`.
    """
    N = groups * LANES
    D = net.state[net.num_nodes]
    H = net.hidden[net.num_nodes]
    size = D * N
    step = np.float32(sign / num_steps)
    _base(net, tab, work, given, given_at, groups)
    for at in range(0, H * N, LANES):
        store(work.first_bar, at, splat(0.0))
    for back in range(num_steps):
        number = num_steps - 1 - back
        for at in range(0, size, LANES):
            store(work.total, at, load(state_bar, state_at + at))
        for turn in range(4):
            stage = 3 - turn
            x_at = tape_at + (4 * number + stage) * size
            time = 2 * number + (stage + 1) // 2
            if sign < 0:
                time = 2 * num_steps - time
            part = step / np.float32(3.0 if stage == 1 or stage == 2 else 6.0)
            # the next stage was entered with state + reach * velocity
            reach = step * np.float32(1.0 if stage == 2 else 0.5)
            _layers(net, tab, work, tape, x_at, time, groups)
            _adjoint_traces(
                net, tab, work, grad, time, part, log_det_bar, log_det_at, groups
            )
            for at in range(0, size, LANES):
                bar = load(state_bar, state_at + at) * part
                if stage < 3:
                    bar = bar + load(work.stage_bar, at) * reach
                store(work.velocity, at, bar)
            _adjoint_field(net, tab, work, grad, tape, x_at, time, groups)
            for at in range(0, size, LANES):
                bar = load(work.velocity, at)
                store(work.stage_bar, at, bar)
                store(work.total, at, load(work.total, at) + bar)
        for at in range(0, size, LANES):
            store(state_bar, state_at + at, load(work.total, at))
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        width = net.given[2, i]
        outer(
            work.acc, 0, work.first_bar, top * N, given, given_at + net.given[0, i] * N,
            N, h, width, groups, 0,
        )  # fmt: skip
        fold(work.acc, 0, grad.given, net.given[1, i], h * width)

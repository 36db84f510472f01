"""This file solves the structured flow and its discrete adjoint on packed blocks.

A pack is rows of one direction, 16 to a group; its arrays are [feature, group, lane].
The solver is the classical Runge-Kutta method of order 4 with equal steps. The adjoint
is that of the discrete scheme: stage inputs are kept, all else is computed again.
Weights' gradients are summed over lanes within a pack and a stage; sums run in a fixed
order, so equal inputs give equal bits.

References:
    Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I", II.1.
"""

import numpy as np

from .fused_plan import Floats, Network
from .fused_products import fold, outer, product
from .fused_tables import Gradients, Tables, Workspace
from .fused_tiles import LANES, compiled, load, splat, store, tanh
from .fused_trace import add_traces, adjoint_traces

__all__ = ["adjoint_pack", "solve_pack"]


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
    trace: int,
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
        trace: 1 to add log-determinants, 0 to leave them alone.
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
            if trace == 1:
                add_traces(net, tab, work, time, part, log_det, log_det_at, groups)
            for at in range(0, size, LANES):
                value = load(work.velocity, at) * part
                if stage > 0:
                    value = value + load(work.total, at)
                store(work.total, at, value)
        for at in range(0, size, LANES):
            value = load(state, state_at + at) + load(work.total, at)
            store(state, state_at + at, value)


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
    trace: int,
    learn: int,
    sign: int,
    num_steps: int,
    groups: int,
) -> None:
    """Carry cotangents of a pack's end to its start, and add the parameters'.

    ``state_bar`` is overwritten by the cotangents of the start. With ``trace`` 0 the
    log-determinants have no cotangents; with ``learn`` 0 the parameters get none. All
    else as in `solve_pack`.
    """
    N = groups * LANES
    D = net.state[net.num_nodes]
    H = net.hidden[net.num_nodes]
    size = D * N
    step = np.float32(sign / num_steps)
    _base(net, tab, work, given, given_at, groups)
    for at in range(0, H * N, LANES):
        store(work.first_bar, at, splat(0.0))
    if trace == 0:
        for at in range(0, (net.num_layers - 1) * H * N, LANES):
            store(work.slope_bar, at, splat(0.0))
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
            if trace == 1:
                adjoint_traces(
                    net, tab, work, grad, learn, time, part, log_det_bar, log_det_at,
                    groups,
                )  # fmt: skip
            for at in range(0, size, LANES):
                bar = load(state_bar, state_at + at) * part
                if stage < 3:
                    bar = bar + load(work.stage_bar, at) * reach
                store(work.velocity, at, bar)
            _adjoint_field(net, tab, work, grad, learn, tape, x_at, time, groups)
            for at in range(0, size, LANES):
                bar = load(work.velocity, at)
                store(work.stage_bar, at, bar)
                store(work.total, at, load(work.total, at) + bar)
        for at in range(0, size, LANES):
            store(state_bar, state_at + at, load(work.total, at))
    if learn == 0:
        return
    for i in range(net.num_nodes):
        top = net.hidden[i]
        h = net.hidden[i + 1] - top
        width = net.given[2, i]
        outer(
            work.acc, 0, work.first_bar, top * N, given, given_at + net.given[0, i] * N,
            N, h, width, groups, 0,
        )  # fmt: skip
        fold(work.acc, 0, grad.given, net.given[1, i], h * width)


@compiled
def _adjoint_field(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    learn: int,
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
            net, tab, work, grad, learn, l, work.unit, before * N, work.unit_bar,
            groups,
        )  # fmt: skip
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
    _adjoint_layer(net, tab, work, grad, learn, 0, x, x_at, work.velocity, groups)
    if learn == 0:
        return
    fold(work.sums, 0, grad.gates, gate_at, F)
    fold(work.sums, F * LANES, grad.drifts, gate_at, F)


@compiled
def _adjoint_layer(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    learn: int,
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
    for i in range(net.num_nodes * learn):
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

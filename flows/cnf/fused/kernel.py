"""This file solves the structured flow and its discrete adjoint on packed blocks.

A pack is rows of one direction, 16 to a group; its arrays are [feature, group, lane].
The solver is the classical Runge-Kutta method of order 4, with Simpson's rule for the
log-determinants (`solve.py`). Stage j of all 4 N stages lies at place (j + 1) // 2 of
the 2 N + 1 times: one stage at either end, two at each place between, whose slopes are
averaged and then have one trace. The adjoint is that of the discrete scheme: stage
inputs are kept, all else is computed again, for the two stages of a place side by side.
Weights' gradients are summed over lanes within a pack and a place; sums run in a fixed
order, so equal inputs give equal bits.

References:
    Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I", II.1.
"""

import numpy as np

from .plan import Floats, Network
from .products import fold, outer, product
from .tables import Gradients, Tables, Workspace
from .tiles import LANES, compiled, load, splat, store, tanh
from .trace import add_traces, adjoint_traces

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
    _base(net, tab, work, given, given_at, groups)
    for j in range(4 * num_steps):
        stage = j % 4
        place = (j + 1) // 2
        step = _step(tab, j // 4, num_steps, sign)
        x_at = tape_at + keep * j * size
        reach = step * np.float32(0.0 if stage == 0 else (1.0 if stage == 3 else 0.5))
        for at in range(0, size, LANES):
            value = load(state, state_at + at)
            if stage > 0:
                value = value + load(work.velocity, at) * reach
            store(tape, x_at + at, value)
        part = _stage_weight(tab, j, num_steps, sign)
        weight = _place_weight(tab, place, num_steps, sign)
        first, last = _stages(place, num_steps)
        time = place if sign > 0 else 2 * num_steps - place
        _layers(
            net, tab, work, tape, x_at, time, 0, trace, part / weight,
            j - first, groups,
        )  # fmt: skip
        if trace == 1 and j == last:
            add_traces(net, tab, work, time, weight, log_det, log_det_at, groups)
        for at in range(0, size, LANES):
            value = load(work.velocity, at) * part
            if stage > 0:
                value = value + load(work.total, at)
            store(work.total, at, value)
            if stage == 3:
                store(state, state_at + at, load(state, state_at + at) + value)


@compiled
def _step(tab: Tables, number: int, num_steps: int, sign: int) -> np.float32:
    """Signed width of a step, counted along the path."""
    left = 2 * (number if sign > 0 else num_steps - 1 - number)
    width: np.float32 = tab.times[left + 2] - tab.times[left]
    return width * np.float32(sign)


@compiled
def _stage_weight(tab: Tables, j: int, num_steps: int, sign: int) -> np.float32:
    """Runge-Kutta weight of stage j, with the path's sign."""
    step: np.float32 = _step(tab, j // 4, num_steps, sign)
    return step / np.float32(3.0 if j % 4 == 1 or j % 4 == 2 else 6.0)


@compiled
def _stages(place: int, num_steps: int) -> tuple[int, int]:
    """First and last stage of a place."""
    return max(2 * place - 1, 0), min(2 * place, 4 * num_steps - 1)


@compiled
def _place_weight(tab: Tables, place: int, num_steps: int, sign: int) -> np.float32:
    """Weight of a place in the quadrature: that of its stages."""
    first, last = _stages(place, num_steps)
    weight = np.float32(0.0)
    for j in range(first, last + 1):
        weight += _stage_weight(tab, j, num_steps, sign)
    return weight


@compiled
def _layers(
    net: Network,
    tab: Tables,
    work: Workspace,
    x: Floats,
    x_at: int,
    time: int,
    slot: int,
    trace: int,
    share: np.float32,
    add: int,
    groups: int,
) -> None:
    """Evaluate the field at ``x``: linear parts, tanh, velocity.

    Linear parts and tanh values go to ``slot``, 0 or 1, of their arrays. With ``trace``
    1 ``share`` of the slopes is written to the mean slopes, or added with ``add`` 1.
    """
    N = groups * LANES
    H = net.hidden[net.num_nodes]
    gate_at = time * tab.bias.size
    linear_at = slot * tab.bias.size * N
    unit_at = slot * (net.num_layers - 1) * H * N
    for l in range(net.num_layers - 1):
        for i in range(net.num_nodes):
            top = net.hidden[i]
            height = net.hidden[i + 1] - top
            out_at = linear_at + (l * H + top) * N
            if l == 0:
                product(
                    work.linear, out_at, x, x_at, N, tab.turned, 0, net.forward[l],
                    net.rows[i], net.rows[i + 1], height, groups, 0,
                )  # fmt: skip
            else:
                product(
                    work.linear, out_at, work.unit, unit_at + (l - 1) * H * N, N,
                    tab.turned, 0, net.forward[l], net.rows[i], net.rows[i + 1],
                    height, groups, 0,
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
                    linear = load(work.linear, linear_at + at) + bias
                    store(work.linear, linear_at + at, linear)
                    value = tanh(linear * gate + drift)
                    store(work.tanh, unit_at + at, value)
                    if trace == 1:
                        slope = (splat(1.0) - value * value) * (gate * share)
                        if add == 1:
                            slope = slope + load(work.slope, at)
                        store(work.slope, at, slope)
                    if net.residual == 1:
                        if l > 0:
                            value = value + load(work.unit, unit_at + at - H * N)
                        store(work.unit, unit_at + at, value)
    l = net.num_layers - 1
    for i in range(net.num_nodes):
        top = net.state[i]
        height = net.state[i + 1] - top
        product(
            work.linear, linear_at + (l * H + top) * N,
            work.unit, unit_at + (l - 1) * H * N, N, tab.turned, 0,
            net.forward[l], net.rows[i], net.rows[i + 1], height, groups, 0,
        )  # fmt: skip
        for r in range(top, top + height):
            f = l * H + r
            gate = tab.gates[gate_at + f]
            drift = tab.drifts[gate_at + f]
            bias = tab.bias[f]
            for g in range(groups):
                at = linear_at + f * N + g * LANES
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
    _base(net, tab, work, given, given_at, groups)
    for at in range(0, H * N, LANES):
        store(work.first_bar, at, splat(0.0))
    if trace == 0:
        for at in range(0, (net.num_layers - 1) * H * N, LANES):
            store(work.slope_bar, at, splat(0.0))
    for back in range(2 * num_steps + 1):
        place = 2 * num_steps - back
        time = place if sign > 0 else 2 * num_steps - place
        weight = _place_weight(tab, place, num_steps, sign)
        first, last = _stages(place, num_steps)
        for j in range(first, last + 1):
            part = _stage_weight(tab, j, num_steps, sign)
            _layers(
                net, tab, work, tape, tape_at + j * size, time, j - first, trace,
                part / weight, j - first, groups,
            )  # fmt: skip
        if trace == 1:
            adjoint_traces(
                net, tab, work, grad, learn, time, weight, log_det_bar, log_det_at,
                groups,
            )  # fmt: skip
        for turn in range(last - first + 1):
            j = last - turn
            stage = j % 4
            step = _step(tab, j // 4, num_steps, sign)
            part = _stage_weight(tab, j, num_steps, sign)
            # the next stage was entered with state + reach * velocity
            reach = step * np.float32(1.0 if stage == 2 else 0.5)
            for at in range(0, size, LANES):
                bar = load(state_bar, state_at + at)
                if stage == 3:
                    store(work.total, at, bar)
                bar = bar * part
                if stage < 3:
                    bar = bar + load(work.stage_bar, at) * reach
                store(work.velocity, at, bar)
            _adjoint_field(net, tab, work, time, j - first, part / weight, turn, groups)
            for at in range(0, size, LANES):
                bar = load(work.velocity, at)
                store(work.stage_bar, at, bar)
                bar = load(work.total, at) + bar
                store(work.total, at, bar)
                if stage == 0:
                    store(state_bar, state_at + at, bar)
        if learn == 1:
            _add_gradients(
                net, tab, work, grad, time, tape, tape_at + first * size,
                last - first + 1, groups,
            )  # fmt: skip
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
    time: int,
    slot: int,
    share: np.float32,
    add: int,
    groups: int,
) -> None:
    """From the cotangents of velocity and mean slopes to those of ``x`` (in velocity).

    The linear parts of ``slot`` are overwritten by their cotangents. The sums for gates
    and drifts are written, or with ``add`` 1 added to.
    """
    N = groups * LANES
    L = net.num_layers
    H = net.hidden[net.num_nodes]
    D = net.state[net.num_nodes]
    F = tab.bias.size
    gate_at = time * F
    linear_at = slot * F * N
    unit_at = slot * (L - 1) * H * N
    for r in range(D):
        f = (L - 1) * H + r
        gate = tab.gates[gate_at + f]
        to_gate = splat(0.0)
        to_drift = splat(0.0)
        if add == 1:
            to_gate = load(work.sums, f * LANES)
            to_drift = load(work.sums, (F + f) * LANES)
        for g in range(groups):
            at = linear_at + f * N + g * LANES
            bar = load(work.velocity, r * N + g * LANES)
            to_gate = to_gate + bar * load(work.linear, at)
            to_drift = to_drift + bar
            store(work.linear, at, bar * gate)
        store(work.sums, f * LANES, to_gate)
        store(work.sums, (F + f) * LANES, to_drift)
    for l in range(L - 1, 0, -1):
        before = (l - 1) * H
        _adjoint_inputs(net, tab, work, l, linear_at + l * H * N, work.unit_bar, groups)
        for r in range(H):
            f = before + r
            gate = tab.gates[gate_at + f]
            twice = (gate + gate) * share
            to_gate = splat(0.0)
            to_drift = splat(0.0)
            if add == 1:
                to_gate = load(work.sums, f * LANES)
                to_drift = load(work.sums, (F + f) * LANES)
            for g in range(groups):
                at = f * N + g * LANES
                value = load(work.tanh, unit_at + at)
                slope_bar = load(work.slope_bar, at)
                rest = splat(1.0) - value * value
                bar = load(work.unit_bar, r * N + g * LANES)
                bar = (bar - value * slope_bar * twice) * rest
                linear = load(work.linear, linear_at + at)
                to_gate = to_gate + bar * linear + slope_bar * rest * share
                to_drift = to_drift + bar
                store(work.linear, linear_at + at, bar * gate)
            store(work.sums, f * LANES, to_gate)
            store(work.sums, (F + f) * LANES, to_drift)
    for at in range(0, H * N, LANES):
        bar = load(work.first_bar, at) + load(work.linear, linear_at + at)
        store(work.first_bar, at, bar)
    _adjoint_inputs(net, tab, work, 0, linear_at, work.velocity, groups)


@compiled
def _adjoint_inputs(
    net: Network,
    tab: Tables,
    work: Workspace,
    l: int,
    alpha_at: int,
    out: Floats,
    groups: int,
) -> None:
    """From the cotangents of layer l's linear part to those of its inputs."""
    N = groups * LANES
    from_state = l == 0
    passes = net.residual if 0 < l < net.num_layers - 1 else 0
    for j in range(net.num_nodes):
        top = net.state[j] if from_state else net.hidden[j]
        end = net.state[j + 1] if from_state else net.hidden[j + 1]
        product(
            out, top * N, work.linear, alpha_at, N, tab.weights, 0, net.backward[l],
            net.cols[j], net.cols[j + 1], end - top, groups, passes,
        )  # fmt: skip


@compiled
def _add_gradients(
    net: Network,
    tab: Tables,
    work: Workspace,
    grad: Gradients,
    time: int,
    x: Floats,
    x_at: int,
    slots: int,
    groups: int,
) -> None:
    """Add the gradients of weights, gates and drifts from the stages of a place."""
    N = groups * LANES
    L = net.num_layers
    H = net.hidden[net.num_nodes]
    F = tab.bias.size
    fold(work.sums, 0, grad.gates, time * F, F)
    fold(work.sums, F * LANES, grad.drifts, time * F, F)
    for l in range(L):
        for i in range(net.num_nodes):
            top = net.state[i] if l == L - 1 else net.hidden[i]
            end = net.state[i + 1] if l == L - 1 else net.hidden[i + 1]
            for block in range(net.rows[i], net.rows[i + 1]):
                width = net.forward[l, 2, block]
                column = net.forward[l, 0, block]
                for slot in range(slots):
                    alpha_at = (slot * F + l * H + top) * N
                    if l == 0:
                        outer(
                            work.acc, 0, work.linear, alpha_at,
                            x, x_at + (slot * net.state[net.num_nodes] + column) * N,
                            N, end - top, width, groups, slot,
                        )  # fmt: skip
                    else:
                        unit_at = (slot * (L - 1) * H + (l - 1) * H + column) * N
                        outer(
                            work.acc, 0, work.linear, alpha_at, work.unit, unit_at,
                            N, end - top, width, groups, slot,
                        )  # fmt: skip
                at = net.forward[l, 1, block]
                fold(work.acc, 0, grad.weights, at, (end - top) * width)

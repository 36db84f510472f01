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

from ...kernels.lane_sums import fold
from ...kernels.lanes import Floats
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, compiled, load, splat, store
from .arrays import Gradients, Tables, Workspace
from .layers import evaluate, observed_part
from .places import place_weight, stage_weight, stages_of, step_of
from .plan import Network
from .trace import add_traces, adjoint_traces
from .transposed_layers import add_gradients, adjoint_field

__all__ = ["adjoint_pack", "solve_pack"]


@compiled
def solve_pack(
    net: Network, tab: Tables, work: Workspace, state: Floats, state_at: int,
    given: Floats, given_at: int, log_det: Floats, log_det_at: int, tape: Floats,
    tape_at: int, keep: int, trace: int, sign: int, num_steps: int, groups: int,
) -> None:  # fmt: skip
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
    observed_part(net, tab, work, given, given_at, groups)
    for j in range(4 * num_steps):
        stage = j % 4
        place = (j + 1) // 2
        step = step_of(tab, j // 4, num_steps, sign)
        x_at = tape_at + keep * j * size
        reach = step * np.float32(0.0 if stage == 0 else (1.0 if stage == 3 else 0.5))
        for at in range(0, size, LANES):
            value = load(state, state_at + at)
            if stage > 0:
                value = value + load(work.velocity, at) * reach
            store(tape, x_at + at, value)
        part = stage_weight(tab, j, num_steps, sign)
        weight = place_weight(tab, place, num_steps, sign)
        first, last = stages_of(place, num_steps)
        time = place if sign > 0 else 2 * num_steps - place
        evaluate(
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
def adjoint_pack(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, state_bar: Floats,
    state_at: int, given: Floats, given_at: int, log_det_bar: Floats, log_det_at: int,
    tape: Floats, tape_at: int, trace: int, learn: int, sign: int, num_steps: int,
    groups: int,
) -> None:  # fmt: skip
    """Carry cotangents of a pack's end to its start, and add the parameters'.

    ``state_bar`` is overwritten by the cotangents of the start. With ``trace`` 0 the
    log-determinants have no cotangents; with ``learn`` 0 the parameters get none. All
    else as in `solve_pack`.
    """
    N = groups * LANES
    D = net.state[net.num_nodes]
    H = net.hidden[net.num_nodes]
    size = D * N
    observed_part(net, tab, work, given, given_at, groups)
    for at in range(0, H * N, LANES):
        store(work.first_bar, at, splat(0.0))
    if trace == 0:
        for at in range(0, (net.num_layers - 1) * H * N, LANES):
            store(work.slope_bar, at, splat(0.0))
    for back in range(2 * num_steps + 1):
        place = 2 * num_steps - back
        time = place if sign > 0 else 2 * num_steps - place
        weight = place_weight(tab, place, num_steps, sign)
        first, last = stages_of(place, num_steps)
        for j in range(first, last + 1):
            part = stage_weight(tab, j, num_steps, sign)
            evaluate(
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
            step = step_of(tab, j // 4, num_steps, sign)
            part = stage_weight(tab, j, num_steps, sign)
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
            adjoint_field(net, tab, work, time, j - first, part / weight, turn, groups)
            for at in range(0, size, LANES):
                bar = load(work.velocity, at)
                store(work.stage_bar, at, bar)
                bar = load(work.total, at) + bar
                store(work.total, at, bar)
                if stage == 0:
                    store(state_bar, state_at + at, bar)
        if learn == 1:
            add_gradients(
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

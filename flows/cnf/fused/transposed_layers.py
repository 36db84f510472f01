"""This file is the adjoint of the field of a pack, see `layers.py`."""

import numpy as np

from ...kernels.block_product import product
from ...kernels.lane_sums import fold
from ...kernels.lanes import Floats
from ...kernels.outer_product import outer
from ...kernels.tiles import LANES, compiled, load, splat, store
from .arrays import Gradients, Tables, Workspace
from .plan import Network

__all__ = ["add_gradients", "adjoint_field"]


@compiled
def adjoint_field(
    net: Network, tab: Tables, work: Workspace, time: int, slot: int, share: np.float32,
    add: int, groups: int,
) -> None:  # fmt: skip
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
    net: Network, tab: Tables, work: Workspace, l: int, alpha_at: int, out: Floats,
    groups: int,
) -> None:  # fmt: skip
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
def add_gradients(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, time: int, x: Floats,
    x_at: int, slots: int, groups: int,
) -> None:  # fmt: skip
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

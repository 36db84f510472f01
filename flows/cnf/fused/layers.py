"""This file evaluates the field of a pack: linear parts, tanh, slopes, velocity."""

import numpy as np

from ...kernels.block_product import product
from ...kernels.lanes import Floats
from ...kernels.tiles import LANES, compiled, load, splat, store, tanh
from .arrays import Tables, Workspace
from .plan import Network

__all__ = ["evaluate", "observed_part"]


@compiled
def evaluate(
    net: Network, tab: Tables, work: Workspace, x: Floats, x_at: int, time: int,
    slot: int, trace: int, share: np.float32, add: int, groups: int,
) -> None:  # fmt: skip
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
def observed_part(
    net: Network, tab: Tables, work: Workspace, given: Floats, given_at: int,
    groups: int,
) -> None:  # fmt: skip
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

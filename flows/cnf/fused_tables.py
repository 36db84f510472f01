"""This file tabulates what depends on a field's parameters and on time only.

Per node and stage time these are the matrices S and E that begin and close the chain of
the node's trace, see `fused_trace.py`. Their adjoints carry cotangents on to weights
and gates. The arrays of a solve, `Tables`, `Gradients` and `Workspace`, are named here.
"""

from typing import NamedTuple

import numpy as np

from .fused_plan import Floats, Network
from .fused_tiles import compiled

__all__ = ["Gradients", "Tables", "Workspace", "adjoint_tables", "fill_tables"]


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

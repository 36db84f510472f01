"""This file tabulates what depends on a field's parameters and on time only.

Per node and stage time these are the matrices S and E that begin and close the chain of
the node's trace, see `trace.py`. Their adjoints carry cotangents on to weights
and gates. The arrays of a solve, `Tables`, `Gradients` and `Workspace`, are named here.
"""

from typing import NamedTuple

import numpy as np

from .plan import CLOSED, CUBIC, OPEN, Floats, Network
from .tiles import compiled

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
        close: E of all nodes (flat and cubic: C in both layouts), [time, table].
        trace: residual and flat: diagonal of S, [time, hidden feature].
        times: ends of the steps and their midpoints, 2 N + 1 in ascending order.
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
    times: Floats


class Gradients(NamedTuple):
    """Sums of cotangents, in the layouts of `Tables`.

    Args:
        weights: packed, [output, input].
        given: observed blocks, [output, column].
        gates: [time, feature].
        drifts: [time, feature]; the bias follows from it.
        start: of S, [time, table].
        close: of E, or of C when flat or cubic, [time, table].
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
    """Scratch arrays of one thread; contents mean nothing between calls.

    ``linear``, ``tanh`` and ``unit`` hold two stages.
    """

    base: Floats
    linear: Floats
    tanh: Floats
    unit: Floats
    slope: Floats
    velocity: Floats
    total: Floats
    slope_bar: Floats
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
            if net.form[i] == CUBIC:
                _fill_cubic(net, tab, i, at, gate)
            elif net.form[i] == CLOSED:
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
                if net.residual == 1 and net.form[i] == CLOSED:
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
def _begin(
    net: Network, tab: Tables, i: int, gate: int, out: Floats, out_at: int
) -> None:
    """Compute S of the closed form, transposed: S[a, c] at place c h + a."""
    h = net.hidden[i + 1] - net.hidden[i]
    s = net.state[i + 1] - net.state[i]
    first = net.diagonal[0, 1, i]
    final = net.diagonal[net.num_layers - 1, 1, i]
    for k in range(h * h):
        out[out_at + k] = np.float32(0.0)
    # slices, as only their indices are known not to be negative, which lets loops be
    # vectors
    for j in range(s):
        left = tab.turned[first + j * h : first + (j + 1) * h]
        for c in range(h):
            factor = tab.gates[gate + j] * tab.weights[final + j * h + c]
            into = out[out_at + c * h : out_at + (c + 1) * h]
            for a in range(h):
                into[a] += factor * left[a]


@compiled
def _fill_cubic(net: Network, tab: Tables, i: int, at: int, gate: int) -> None:
    """Compute C of the cubic form in both layouts."""
    h = net.hidden[i + 1] - net.hidden[i]
    width = h + net.residual
    columns = width * width
    second = net.diagonal[1, 1, i]
    third = net.diagonal[2, 1, i]
    _begin(net, tab, i, gate, tab.start, at)
    for b in range(h):
        left = second + b * h
        for c in range(h):
            right = tab.weights[third + c * h + b]
            begin = at + c * h
            to = at + (b * width + c) * h
            for a in range(h):
                tab.close[to + a] = tab.start[begin + a] * tab.weights[left + a] * right
    if net.residual == 1:
        for b in range(h):
            for a in range(h):
                begin = tab.start[at + b * h + a]
                past_third = begin * tab.weights[second + b * h + a]
                past_second = begin * tab.weights[third + b * h + a]
                tab.close[at + (b * width + h) * h + a] = past_third
                tab.close[at + (h * width + b) * h + a] = past_second
            past_both = tab.start[at + b * h + b]
            tab.close[at + (columns - 1) * h + b] = past_both
    for a in range(h):
        into = tab.start[at + a * columns : at + (a + 1) * columns]
        source = tab.close[at + a : at + columns * h]
        for k in range(columns):
            into[k] = source[k * h]


@compiled
def _adjoint_cubic(
    net: Network,
    tab: Tables,
    grad: Gradients,
    i: int,
    at: int,
    gate: int,
    scratch: Floats,
) -> None:
    """Carry the cotangents of C on to S (into ``grad.start``) and the middle layers."""
    h = net.hidden[i + 1] - net.hidden[i]
    width = h + net.residual
    columns = width * width
    second = net.diagonal[1, 1, i]
    third = net.diagonal[2, 1, i]
    begins, bars = 0, h * h
    _begin(net, tab, i, gate, scratch, begins)
    for k in range(h * h):
        scratch[bars + k] = np.float32(0.0)
    for b in range(h):
        left = tab.weights[second + b * h : second + (b + 1) * h]
        left_bar = grad.weights[second + b * h : second + (b + 1) * h]
        for c in range(h):
            right = tab.weights[third + c * h + b]
            begin = scratch[begins + c * h : begins + (c + 1) * h]
            begin_bar = scratch[bars + c * h : bars + (c + 1) * h]
            here = at + (b * width + c) * h
            cotangent = grad.close[here : here + h]
            total = np.float32(0.0)
            for a in range(h):
                both = cotangent[a] * begin[a]
                begin_bar[a] += cotangent[a] * left[a] * right
                left_bar[a] += both * right
                total += both * left[a]
            grad.weights[third + c * h + b] += total
    if net.residual == 1:
        for b in range(h):
            for a in range(h):
                begin_value = scratch[begins + b * h + a]
                past_third = grad.close[at + (b * width + h) * h + a]
                past_second = grad.close[at + (h * width + b) * h + a]
                grad.weights[second + b * h + a] += past_third * begin_value
                grad.weights[third + b * h + a] += past_second * begin_value
                scratch[bars + b * h + a] += (
                    past_third * tab.weights[second + b * h + a]
                    + past_second * tab.weights[third + b * h + a]
                )
            scratch[bars + b * h + b] += grad.close[at + (columns - 1) * h + b]
    for a in range(h):
        for c in range(h):
            grad.start[at + a * h + c] = scratch[bars + c * h + a]


@compiled
def adjoint_tables(
    net: Network,
    tab: Tables,
    grad: Gradients,
    num_times: int,
    scratch: Floats,
) -> None:
    """Carry the cotangents of S and E (or C) on to the weights and the gates.

    ``scratch`` has room for twice the square of the largest hidden block.
    """
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
                    for m in range(h):
                        grad.start[at + m * c + m] += grad.trace[
                            time * H + net.hidden[i] + m
                        ]
            if net.form[i] != OPEN:
                if net.form[i] == CUBIC:
                    c = h
                    _adjoint_cubic(net, tab, grad, i, at, gate, scratch)
                else:
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

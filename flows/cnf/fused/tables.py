"""This file tabulates what depends on a field's parameters and on time only.

Per node and stage time these are the matrices S and E that begin and close the chain of
the node's trace, or C where its form has one, see `trace.py`. Their adjoints carry
cotangents on to weights and gates.
"""

import numpy as np

from ...kernels.lanes import Floats
from ...kernels.tiles import compiled, inlined
from .arrays import Gradients, Tables
from .cubic import adjoint_cubic_table, fill_cubic
from .flat import adjoint_flat_table, flatten
from .plan import CLOSED, CUBIC, OPEN, Network, outer_blocks

__all__ = ["adjoint_tables", "fill_tables"]


@compiled
def fill_tables(net: Network, tab: Tables, num_times: int) -> None:
    """Compute S and E (or C) of all nodes at all times."""
    for time in range(num_times):
        for i in range(net.num_nodes):
            at = time * net.table[net.num_nodes] + net.table[i]
            gate = _last_gate(net, tab, i, time)
            if net.form[i] == CUBIC:
                fill_cubic(net, tab, i, at, gate)
            elif net.form[i] == CLOSED:
                _fill_closed(net, tab, i, at, gate)
            else:
                _fill_open(net, tab, i, at, gate)
            if net.num_layers <= 3:
                flatten(net, tab, i, time, at)


@inlined
def _last_gate(net: Network, tab: Tables, i: int, time: int) -> int:
    """Where the last layer's gates of node i are at a time."""
    hidden = (net.num_layers - 1) * net.hidden[net.num_nodes]
    place: int = time * tab.bias.size + hidden + net.state[i]
    return place


@inlined
def _fill_closed(net: Network, tab: Tables, i: int, at: int, gate: int) -> None:
    """Compute S and E of the closed form of node i."""
    h, s, first, final = outer_blocks(net, i)
    middle = net.diagonal[net.num_layers - 2, 1, i]
    for p in range(h):
        for k in range(h):
            tab.start[at + p * h + k] = np.float32(0.0)
        for j in range(s):
            left = tab.weights[first + p * s + j] * tab.gates[gate + j]
            for k in range(h):
                tab.start[at + p * h + k] += left * tab.weights[final + j * h + k]
    for k in range(h * h):
        tab.close[at + k] = tab.weights[middle + k]


@inlined
def _fill_open(net: Network, tab: Tables, i: int, at: int, gate: int) -> None:
    """Compute S and E of the open form of node i."""
    h, s, first, final = outer_blocks(net, i)
    for k in range(h * s):
        tab.start[at + k] = tab.weights[first + k]
    for j in range(s):
        for m in range(h):
            cell = j * h + m
            tab.close[at + cell] = tab.gates[gate + j] * tab.weights[final + cell]


@compiled
def adjoint_tables(
    net: Network, tab: Tables, grad: Gradients, num_times: int, scratch: Floats
) -> None:
    """Carry the cotangents of S and E (or C) on to the weights and the gates.

    ``scratch`` has room for twice the square of the largest hidden block.
    """
    for time in range(num_times):
        for i in range(net.num_nodes):
            at = time * net.table[net.num_nodes] + net.table[i]
            gate = _last_gate(net, tab, i, time)
            if net.num_layers <= 3:
                adjoint_flat_table(net, tab, grad, i, time, at, gate)
            if net.form[i] == OPEN:
                _adjoint_open(net, tab, grad, i, at, gate)
                continue
            if net.form[i] == CUBIC:
                adjoint_cubic_table(net, tab, grad, i, at, gate, scratch)
            else:
                _adjoint_close(net, grad, i, at)
            _adjoint_start(net, tab, grad, i, at, gate, scratch)


@inlined
def _adjoint_close(net: Network, grad: Gradients, i: int, at: int) -> None:
    """Carry the cotangents of E = W_{L-1} on, in the closed form of node i."""
    h = net.hidden[i + 1] - net.hidden[i]
    middle = net.diagonal[net.num_layers - 2, 1, i]
    for k in range(h * h):
        grad.weights[middle + k] += grad.close[at + k]


@inlined
def _adjoint_start(
    net: Network, tab: Tables, grad: Gradients, i: int, at: int, gate: int,
    scratch: Floats,
) -> None:  # fmt: skip
    """Carry the cotangents of S = W_1 G_L W_L on, in the closed or the cubic form."""
    h, s, first, final = outer_blocks(net, i)
    for j in range(s):
        for k in range(h):
            scratch[k] = np.float32(0.0)
        for p in range(h):
            weight = tab.weights[first + p * s + j]
            total = np.float32(0.0)
            for k in range(h):
                bar = grad.start[at + p * h + k]
                scratch[k] += bar * weight
                total += bar * tab.weights[final + j * h + k]
            grad.weights[first + p * s + j] += total * tab.gates[gate + j]
        total = np.float32(0.0)
        for k in range(h):
            total += scratch[k] * tab.weights[final + j * h + k]
            grad.weights[final + j * h + k] += scratch[k] * tab.gates[gate + j]
        grad.gates[gate + j] += total


@inlined
def _adjoint_open(
    net: Network, tab: Tables, grad: Gradients, i: int, at: int, gate: int
) -> None:
    """Carry the cotangents of S = W_1 and E = G_L W_L on, in the open form."""
    h, s, first, final = outer_blocks(net, i)
    for k in range(h * s):
        grad.weights[first + k] += grad.start[at + k]
    for j in range(s):
        total = np.float32(0.0)
        for m in range(h):
            bar = grad.close[at + j * h + m]
            total += bar * tab.weights[final + j * h + m]
            grad.weights[final + j * h + m] += bar * tab.gates[gate + j]
        grad.gates[gate + j] += total

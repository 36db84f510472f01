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
hidden block but one product less (`chains.py`). With L <= 3 no product is left
(`flat.py`): the trace is bilinear in the slopes, and C[k, m] = E[k, m] S[m, k] is
tabulated. A residual connection adds N_{l-1} to N_l.

The cubic form (`cubic.py`) multiplies as often as the closed one, but keeps no matrices
per row: it is one product with a table, which small blocks can afford.

References:
    Weilbach et al., AISTATS 2020, section 3 (the structure that makes it exact).
"""

import numpy as np

from ...kernels.lanes import Floats
from ...kernels.tiles import LANES, compiled, inlined
from .arrays import Gradients, NodeTrace, Tables, Workspace
from .chains import add_chain, adjoint_chain
from .cubic import add_cubic, adjoint_cubic
from .flat import add_flat, adjoint_flat
from .plan import CUBIC, Network

__all__ = ["add_traces", "adjoint_traces"]


@compiled
def add_traces(
    net: Network, tab: Tables, work: Workspace, time: int, weight: np.float32,
    log_det: Floats, log_det_at: int, groups: int,
) -> None:  # fmt: skip
    """Add ``weight`` times each node's trace to ``log_det``."""
    for i in range(net.num_nodes):
        here = _at_node(net, i, time, weight, log_det, log_det_at, groups, 0)
        if net.form[i] == CUBIC:
            add_cubic(net, tab, work, here)
        elif net.num_layers <= 3:
            add_flat(net, tab, work, here)
        else:
            add_chain(net, tab, work, here)


@compiled
def adjoint_traces(
    net: Network, tab: Tables, work: Workspace, grad: Gradients, learn: int, time: int,
    weight: np.float32, log_det_bar: Floats, log_det_at: int, groups: int,
) -> None:  # fmt: skip
    """Write the slopes' cotangents, and add those of the trace's weights and tables.

    With ``learn`` 0 what is added to `Gradients` is without meaning.
    """
    for i in range(net.num_nodes):
        here = _at_node(net, i, time, weight, log_det_bar, log_det_at, groups, learn)
        if net.form[i] == CUBIC:
            adjoint_cubic(net, tab, work, grad, here)
        elif net.num_layers <= 3:
            adjoint_flat(net, tab, work, grad, here)
        else:
            adjoint_chain(net, tab, work, grad, here)


@inlined
def _at_node(
    net: Network, i: int, time: int, weight: np.float32, log_det: Floats,
    log_det_at: int, groups: int, learn: int,
) -> NodeTrace:  # fmt: skip
    """What the trace of node i needs."""
    return NodeTrace(
        node=i,
        time=time,
        table=time * net.table[net.num_nodes] + net.table[i],
        top=net.hidden[i],
        hidden=net.hidden[i + 1] - net.hidden[i],
        columns=net.columns[i],
        all_hidden=net.hidden[net.num_nodes],
        groups=groups,
        weight=weight,
        log_det=log_det,
        at=log_det_at + i * groups * LANES,
        learn=learn,
    )

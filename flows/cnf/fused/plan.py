"""This file says where a structure's blocks lie, for the fused kernel."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...flow.structure import Structure
from ...kernels.lanes import MAX_GROUPS, Integers
from ...kernels.tiles import LANES, inlined

__all__ = [
    "CLOSED",
    "CUBIC",
    "OPEN",
    "Network",
    "Plan",
    "make_plan",
    "outer_blocks",
]

OPEN, CLOSED, CUBIC = 0, 1, 2
"""Forms of a node's trace."""
_MOST_CUBIC = 2048
"""Numbers of a cubic form; those of all nodes and times stay in the caches."""
_CHAIN_BYTES = 10_000
"""Aim for one matrix of a chain; four of them stay in the first-level cache."""


class Network(NamedTuple):
    """Where the blocks are: all that does not change while a flow is trained.

    Args:
        num_nodes: number of nodes.
        num_layers: number L of layers.
        residual: 1 with residual connections between hidden layers, else 0.
        state: first state feature of each node, and their number.
        hidden: first hidden feature of each node, and their number.
        columns: c of each node.
        form: OPEN, CLOSED or CUBIC, of each node's trace.
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
    form: Integers
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


@inlined
def outer_blocks(net: Network, i: int) -> tuple[int, int, int, int]:
    """Sizes h and s of node i, and where its first and last layer's blocks begin."""
    h = net.hidden[i + 1] - net.hidden[i]
    s = net.state[i + 1] - net.state[i]
    return h, s, net.diagonal[0, 1, i], net.diagonal[net.num_layers - 1, 1, i]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the kernel knows of a structure.

    Args:
        network: the blocks.
        layer_starts: first packed weight of each layer, and their number.
        turn: position of each weight's block transposed: turned = weights[turn].
        turn_observed: likewise for the observed weights.
        observed_columns: observed columns of node 0, of node 1, ...
        features: outputs of all layers together.
        idle: scratch arrays that no solve is using, to be used again.
    """

    network: Network
    layer_starts: tuple[int, ...]
    turn: Integers
    turn_observed: Integers
    observed_columns: Integers
    features: int
    idle: list[Any] = field(default_factory=list, repr=False)


def make_plan(
    structure: Structure, hidden: Sequence[int], num_layers: int, *, residual: bool
) -> Plan:
    """The plan of a field with ``hidden[i]`` units per hidden layer in node i."""
    state, rows = structure.sizes, tuple(hidden)
    if num_layers < 2 or len(rows) != len(state):
        raise ValueError(
            "fused engine: shape of the field; expected at least 2 layers and "
            f"{len(state)} hidden sizes; got {num_layers} and {len(rows)}"
        )
    pattern = [(*block.latent_parents, i) for i, block in enumerate(structure.blocks)]
    edges = [(i, j) for i, columns in enumerate(pattern) for j in columns]
    order = sorted(range(len(edges)), key=lambda b: (edges[b][1], edges[b][0]))
    widths = [state, *[rows] * (num_layers - 1), state]
    forward = np.zeros((num_layers, 3, len(edges)), dtype=np.int64)
    backward = np.zeros_like(forward)
    diagonal = np.zeros((num_layers, 3, len(state)), dtype=np.int64)
    turns: list[Integers] = []
    layer_starts = [0]
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes = [(outputs[i], inputs[j]) for i, j in edges]
        starts, turn = _turned(shapes, layer_starts[-1])
        turns.append(turn)
        layer_starts.append(layer_starts[-1] + turn.size)
        from_input, from_output = _starts(inputs), _starts(outputs)
        for block, (i, j) in enumerate(edges):
            forward[layer, :, block] = from_input[j], starts[block], inputs[j]
            if i == j:
                diagonal[layer, :, i] = 0, starts[block], inputs[j]
        for place, block in enumerate(order):
            i = edges[block][0]
            backward[layer, :, place] = from_output[i], starts[block], outputs[i]
    counts = [len(block.observed_columns) for block in structure.blocks]
    observed_starts, turn_observed = _turned(list(zip(rows, counts, strict=True)), 0)
    forms = [
        _form(s, h, num_layers, residual=residual)
        for s, h in zip(state, rows, strict=True)
    ]
    columns = [
        {OPEN: s, CLOSED: h, CUBIC: (h + residual) ** 2}[form]
        for s, h, form in zip(state, rows, forms, strict=True)
    ]
    cells = [h * c for h, c in zip(rows, columns, strict=True)]
    batch = [
        min(MAX_GROUPS, max(1, _CHAIN_BYTES // (4 * LANES * size))) for size in cells
    ]
    chain = max(
        1 if form == CUBIC else size * b * LANES
        for size, b, form in zip(cells, batch, forms, strict=True)
    )
    zeros = np.zeros(len(state), dtype=np.int64)
    network = Network(
        num_nodes=len(state),
        num_layers=num_layers,
        residual=int(residual),
        state=_starts(state),
        hidden=_starts(rows),
        columns=_integers(columns),
        form=_integers(forms),
        table=_starts(cells),
        batch=_integers(batch),
        rows=_starts([len(line) for line in pattern]),
        forward=forward,
        cols=_starts([sum(j == k for _, j in edges) for k in range(len(state))]),
        backward=backward,
        diagonal=diagonal,
        table_blocks=np.stack([zeros, zeros, _integers(rows)]),
        column_blocks=np.stack([zeros, zeros, _integers(columns)]),
        given=np.stack([_starts(counts)[:-1], observed_starts, _integers(counts)]),
        chain=chain,
    )
    return Plan(
        network=network,
        layer_starts=tuple(layer_starts),
        turn=np.concatenate(turns),
        turn_observed=turn_observed,
        observed_columns=_integers(
            [c for block in structure.blocks for c in block.observed_columns]
        ),
        features=(num_layers - 1) * sum(rows) + sum(state),
    )


def _form(state: int, hidden: int, num_layers: int, *, residual: bool) -> int:
    """The form of a node's trace that takes the least work (`trace.py`)."""
    if num_layers == 2:
        return OPEN
    size = hidden * (hidden + residual) ** 2
    if num_layers == 4 and hidden <= 2 * state and size <= _MOST_CUBIC:
        return CUBIC
    is_closed = (num_layers - 3) * hidden < (num_layers - 2) * state
    return CLOSED if num_layers == 3 or is_closed else OPEN


def _integers(values: Sequence[int]) -> Integers:
    return np.asarray(values, dtype=np.int64)


def _starts(sizes: Sequence[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _turned(shapes: Sequence[tuple[int, int]], start: int) -> tuple[Integers, Integers]:
    """Each block's start, and the packed positions with every block transposed."""
    starts, parts = [], [np.zeros(0, dtype=np.int64)]
    for height, width in shapes:
        starts.append(start)
        block = np.arange(start, start + height * width).reshape(height, width)
        parts.append(block.T.reshape(-1))
        start += height * width
    return _integers(starts), np.concatenate(parts).astype(np.int64)

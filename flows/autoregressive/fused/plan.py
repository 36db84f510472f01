"""This file says where the networks' numbers lie, for the compiled kernel."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...flow.column_networks import ColumnNetworks
from ...kernels.lanes import MAX_GROUPS, Floats, Integers, aligned
from ...kernels.tiles import LANES

__all__ = ["Plan", "Weights", "Workspace", "make_plan", "make_workspace"]


class Plan(NamedTuple):
    """Where the blocks are: all that does not change while a flow is trained.

    Args:
        num_columns: number C of columns.
        layers: number L of layers before the last one.
        hidden: number H of units of each of them.
        outputs: numbers that a network ends in, 3 K.
        inputs: numbers of a row that are read.
        reads: how many numbers each column reads.
        first_runs: first run of each column, and the number of runs.
        runs: [(first number, offset in the first weights, size), run]: numbers side by
            side that a column reads.
        inner: the one run of a hidden layer.
        last: the one run of the outputs.
        least_scale: of a component.
    """

    num_columns: int
    layers: int
    hidden: int
    outputs: int
    inputs: int
    reads: Integers
    first_runs: Integers
    runs: NDArray[np.int64]
    inner: NDArray[np.int64]
    last: NDArray[np.int64]
    least_scale: np.float32


class Weights(NamedTuple):
    """Parameters of all networks, or sums for their gradients, flat.

    Args:
        first: [read, unit], column by column.
        first_bias: [column, unit].
        hidden: [layer, column, unit before, unit].
        hidden_bias: [layer, column, unit].
        last: [column, unit, output].
        last_bias: [column, output].
    """

    first: Floats
    first_bias: Floats
    hidden: Floats
    hidden_bias: Floats
    last: Floats
    last_bias: Floats


class Workspace(NamedTuple):
    """Scratch arrays of one thread, of a column and a pack.

    Args:
        linear: [layer, unit, group, lane]: linear parts, later their cotangents.
        units: [layer, unit, group, lane].
        ends: [output, group, lane].
        parts: of 16 rows' mixtures (`mixtures.py`).
        unit_bar: [unit, group, lane]: cotangents of units.
        end_bar: [output, group, lane]: cotangents of outputs.
        turned: [layer, unit, unit before], then [output, unit]: a column's weights,
            their axes exchanged.
        sums: weights' gradients of a column, lanes apart.
    """

    linear: Floats
    units: Floats
    ends: Floats
    parts: Floats
    unit_bar: Floats
    end_bar: Floats
    turned: Floats
    sums: Floats


def make_plan(networks: ColumnNetworks, inputs: int, least_scale: float) -> Plan:
    """The plan of networks that read rows of ``inputs`` numbers."""
    inner, columns, hidden, _ = networks.hidden.shape
    outputs = networks.last.shape[-1]
    numbers = networks.reads.tolist()  # type: ignore[operator]
    runs: list[tuple[int, int, int]] = []
    first_runs = [0]
    for start, stop in pairwise(networks.starts):
        begin = start
        for at in range(start + 1, stop + 1):
            if at == stop or numbers[at] != numbers[at - 1] + 1:
                runs.append((numbers[begin], begin * hidden, at - begin))
                begin = at
        first_runs.append(len(runs))
    return Plan(
        num_columns=columns,
        layers=1 + inner,
        hidden=hidden,
        outputs=outputs,
        inputs=inputs,
        reads=np.array([b - a for a, b in pairwise(networks.starts)], dtype=np.int64),
        first_runs=np.array(first_runs, dtype=np.int64),
        runs=np.array(runs or [(0, 0, 0)], dtype=np.int64).T.copy(),
        inner=np.array([[0], [0], [hidden]], dtype=np.int64),
        last=np.array([[0], [0], [outputs]], dtype=np.int64),
        least_scale=np.float32(least_scale),
    )


def make_workspace(plan: Plan) -> Workspace:
    """Scratch arrays for packs of any size."""
    lanes = MAX_GROUPS * LANES
    units = plan.hidden * lanes
    cells = plan.hidden * (
        int(plan.reads.max(initial=0))
        + (plan.layers - 1) * plan.hidden
        + plan.layers
        + plan.outputs
    )
    return Workspace(
        linear=aligned(plan.layers * units),
        units=aligned(plan.layers * units),
        ends=aligned(plan.outputs * lanes),
        parts=aligned((plan.outputs // 3 * 4 + 2) * LANES),
        unit_bar=aligned(units),
        end_bar=aligned(plan.outputs * lanes),
        turned=aligned(plan.hidden * ((plan.layers - 1) * plan.hidden + plan.outputs)),
        sums=aligned((cells + plan.outputs) * LANES),
    )

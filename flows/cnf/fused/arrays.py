"""This file names the arrays of a solve, and what one node's trace needs of them."""

from typing import NamedTuple

import numpy as np

from ...kernels.lanes import Floats

__all__ = ["Gradients", "NodeTrace", "Tables", "Workspace"]


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


class NodeTrace(NamedTuple):
    """One node's trace at one time of a pack.

    Args:
        node: which.
        time: which.
        table: offset of the node's block in `Tables.start` and `Tables.close`.
        top: first hidden feature of the node.
        hidden: h, its number of hidden features.
        columns: c, the columns of its chain.
        all_hidden: hidden features of all nodes.
        groups: groups of rows.
        weight: of the trace in the log-determinant.
        log_det: log-determinants, or their cotangents.
        at: where those of the node begin.
        learn: 0 where what is added to `Gradients` is without meaning.
    """

    node: int
    time: int
    table: int
    top: int
    hidden: int
    columns: int
    all_hidden: int
    groups: int
    weight: np.float32
    log_det: Floats
    at: int
    learn: int

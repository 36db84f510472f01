"""This file scores packs of rows column by column, and sums weights' gradients.

A column's network and mixture of a pack stay in the second-level cache; for the adjoint
they are computed again. Columns share nothing, so that threads may take some each, and
sums run in a fixed order: equal inputs give equal bits.
"""

from ...kernels.lanes import Floats, Integers
from ...kernels.tiles import LANES, compiled, load, store
from .mixtures import add_slopes, log_density
from .networks import add_gradients, begin_sums, evaluate, fold_sums
from .plan import Plan, Weights, Workspace

__all__ = ["adjoint_columns", "score_columns"]


@compiled
def score_columns(
    plan: Plan, weights: Weights, work: Workspace, packs: Integers, x: Floats,
    residual: Floats, found: Floats, first: int, last: int,
) -> None:  # fmt: skip
    """Write log densities of columns ``first`` up to ``last``.

    Args:
        plan: of the networks.
        weights: the parameters.
        work: scratch.
        packs: [pack, (first group, groups)].
        x: what networks read, per pack [number, group, lane].
        residual: per pack [column, group, lane].
        found: as ``residual``; overwritten.
        first: first column.
        last: one past the last column.
    """
    for i in range(first, last):
        for p in range(len(packs)):
            start = packs[p, 0] * LANES
            groups = packs[p, 1]
            N = groups * LANES
            evaluate(plan, weights, work, i, x, start * plan.inputs, groups)
            for g in range(groups):
                at = start * plan.num_columns + i * N + g * LANES
                store(
                    found, at,
                    log_density(plan, work, g * LANES, N, load(residual, at)),
                )  # fmt: skip


@compiled
def adjoint_columns(
    plan: Plan, weights: Weights, work: Workspace, grad: Weights, packs: Integers,
    x: Floats, residual: Floats, bar: Floats, found: Floats, entry_bar: Floats,
    first: int, last: int,
) -> None:  # fmt: skip
    """Write log densities of columns ``first`` up to ``last``, and add gradients.

    Args:
        plan: of the networks.
        weights: the parameters.
        work: scratch.
        grad: added to.
        packs: see `score_columns`.
        x: see `score_columns`.
        residual: see `score_columns`.
        bar: cotangents of the log densities, as ``residual``.
        found: the log densities; overwritten.
        entry_bar: cotangents of the first layer's linear parts, per pack [column, unit,
            group, lane]; overwritten, unless it is empty.
        first: first column.
        last: one past the last column.
    """
    H = plan.hidden
    for i in range(first, last):
        begin_sums(plan, weights, work, i)
        for p in range(len(packs)):
            start = packs[p, 0] * LANES
            groups = packs[p, 1]
            N = groups * LANES
            evaluate(plan, weights, work, i, x, start * plan.inputs, groups)
            for g in range(groups):
                at = start * plan.num_columns + i * N + g * LANES
                store(
                    found, at,
                    log_density(plan, work, g * LANES, N, load(residual, at)),
                )  # fmt: skip
                add_slopes(plan, work, g * LANES, N, load(bar, at))
            add_gradients(plan, work, i, x, start * plan.inputs, groups)
            if entry_bar.size > 0:
                at = (start * plan.num_columns + i * N) * H
                for k in range(0, H * N, LANES):
                    store(entry_bar, at + k, load(work.linear, k))
        fold_sums(plan, work, i, grad)

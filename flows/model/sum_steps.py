"""This file runs groups of sums as one product with a fixed matrix.

The matrix is dense where that is small, sparse otherwise. Means that are linear in a
few slots are not formed at all: the densities that read them form them block by block.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .dag import AffineTerms
from .gathering import DENSE, IN_TOTAL, Gathering, Run, Step
from .jobs import Job
from .kernels import SparseRows
from .totals import linear_normal_total

__all__ = ["add_sums", "is_deferred", "linear_normals"]

_MANY = 64
"""At least so many means are formed with their densities."""

_FEW = 32
"""Means that are linear in at most this many slots are formed with their density."""

_DEFERRED = (-3, -3)
"""Address of sums that are formed together with the density that reads them."""


def is_deferred(gathering: Gathering, job: Job) -> bool:
    """Return whether a job reads sums that it has to form itself."""
    return not gathering.deferred.keys().isdisjoint(job.inputs)


def add_sums(gathering: Gathering, jobs: list[Job]) -> Step | None:
    """Return the step of a group of sums; None if who reads them will form them."""
    rows: list[AffineTerms] = [job.attribute for job in jobs]
    slots = [job.outputs[0] for job in jobs]
    columns = _columns(gathering, rows)
    if (
        all(slot in gathering.work.means for slot in slots)
        and len(rows) >= _MANY
        and len(columns) <= _FEW
        and all(map(gathering.is_finite, columns))
    ):
        gathering.deferred.update(zip(slots, rows, strict=True))
        gathering.address.update(dict.fromkeys(slots, _DEFERRED))
        return None
    for slot, row in zip(slots, rows, strict=True):
        gathering.finite[slot] = all(map(gathering.is_finite, row.terms))
    is_scaled = all(len(row.terms) == 1 for row in rows)
    step = _scaled(gathering, rows) if is_scaled else _product(gathering, rows, columns)
    gathering.register(slots)
    return step


def linear_normals(gathering: Gathering, jobs: list[Job]) -> Step:
    """Return the step of summed normals whose means are deferred sums."""
    means = [gathering.deferred[job.arguments[1][0]] for job in jobs]
    x = gathering.argument([job.arguments[0] for job in jobs])
    scale = gathering.argument([job.arguments[2] for job in jobs])
    columns = _columns(gathering, means)
    matrix = gathering.constant(_dense(means, columns))
    bias = gathering.column([row.bias for row in means])
    source = gathering.rows(columns)
    gathering.address.update((job.outputs[0], IN_TOTAL) for job in jobs)
    return lambda run: run.totals.append(
        linear_normal_total(
            x(run), source(run), scale(run), run.constants[matrix], run.constants[bias]
        )
    )


def _columns(gathering: Gathering, rows: Sequence[AffineTerms]) -> list[int]:
    """Return the slots that sums read, in the order in which they stand."""
    slots = {slot for row in rows for slot in row.terms}
    return sorted(slots, key=gathering.address.__getitem__)


def _entries(
    rows: Sequence[AffineTerms], columns: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column and value of every coefficient."""
    where: Mapping[int, int] = {slot: number for number, slot in enumerate(columns)}
    entries = [
        (number, where[slot], factor)
        for number, row in enumerate(rows)
        for slot, factor in row.terms.items()
    ]
    row_of, column_of, values = zip(*entries, strict=True)
    return (
        torch.tensor(row_of),
        torch.tensor(column_of),
        torch.tensor(values, dtype=torch.float64),
    )


def _dense(rows: Sequence[AffineTerms], columns: Sequence[int]) -> Tensor:
    row_of, column_of, values = _entries(rows, columns)
    dense = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    dense[row_of, column_of] = values
    return dense


def _scaled(gathering: Gathering, rows: Sequence[AffineTerms]) -> Step:
    """Return the step for coefficient · slot + bias."""
    fetch = gathering.argument([tuple(row.terms) for row in rows])
    factors = [next(iter(row.terms.values())) for row in rows]
    factor = gathering.column(factors)
    bias = gathering.column([row.bias for row in rows])
    has_factor = any(value != 1.0 for value in factors)
    has_bias = any(row.bias for row in rows)

    def step(run: Run) -> None:
        value = fetch(run)
        if has_factor and has_bias:
            value = torch.addcmul(run.constants[bias], value, run.constants[factor])
        elif has_factor:
            value = value * run.constants[factor]
        else:
            value = value + run.constants[bias]
        run.tensors.append(value)

    return step


def _product(
    gathering: Gathering, rows: Sequence[AffineTerms], columns: Sequence[int]
) -> Step:
    """Return the step for bias + matrix · slots."""
    bias = gathering.column([row.bias for row in rows])
    has_bias = any(row.bias for row in rows)
    fetch = gathering.rows(columns)
    shape = (len(rows), len(columns))
    entries = _entries(rows, columns)
    is_dense = shape[0] * shape[1] <= max(DENSE, 20 * len(entries[2]))
    if is_dense and all(map(gathering.is_finite, columns)):
        matrix = gathering.constant(_dense(rows, columns))
        if has_bias:
            return lambda run: run.tensors.append(
                torch.addmm(run.constants[bias], run.constants[matrix], fetch(run))
            )
        return lambda run: run.tensors.append(run.constants[matrix] @ fetch(run))
    made: dict[tuple[torch.dtype, torch.device], SparseRows] = {}

    def step(run: Run) -> None:
        x = fetch(run)
        sparse = made.get((x.dtype, x.device))
        if sparse is None:
            row_of, column_of, values = entries
            sparse = made[x.dtype, x.device] = SparseRows(
                *shape, row_of.to(x.device), column_of.to(x.device), values.to(x)
            )
        value = sparse.apply(x)
        run.tensors.append(value + run.constants[bias] if has_bias else value)

    return step

"""This file is least squares, with tests of what it leaves unexplained."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["STANDARD_ERRORS", "Regression", "is_more_than_chance", "residuals"]


@dataclass(frozen=True, slots=True)
class Regression:
    """Least squares of one column on others.

    Args:
        intercept: of the prediction.
        slopes: of the prediction, one per column read.
        scale: standard deviation of the residual.
        kurtosis: excess kurtosis of the residual.
        is_linear_gaussian: whether, as far as the draws can tell, the residual is
            normal and independent of the columns read.
    """

    intercept: Tensor
    slopes: Tensor
    scale: Tensor
    kurtosis: float
    is_linear_gaussian: bool

    @classmethod
    def of(
        cls,
        draws: Float[Tensor, "draw column"],
        moments: Float[Tensor, "column column"],
        column: int,
        reads: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> "Regression":
        """Regression of a column.

        Args:
            draws: rows; the last column is one.
            moments: means of the products of their columns.
            column: the predicted one.
            reads: columns that predict it.
            sources: columns whose squares, products and cubes must not explain what
                is left; those read if not given.
        """
        rows = draws.T  # a column of draws is then in one piece
        columns = [*reads, len(rows) - 1]
        solved = _least_squares(rows, moments, columns, column)
        residual = rows[column] - _combined(rows, columns, solved)
        count = residual.numel()
        scale = (residual.square().sum() / max(1, count - len(columns))).sqrt()
        tested = residual[:_TEST_DRAWS]
        unit = (tested - tested.mean()) / tested.std()
        count = unit.numel()
        kurtosis = float(unit.pow(4).mean() - 3.0)
        is_normal = (
            abs(float(unit.pow(3).mean())) < STANDARD_ERRORS * (6.0 / count) ** 0.5
            and abs(kurtosis) < STANDARD_ERRORS * (24.0 / count) ** 0.5
        )
        few = [*(reads if sources is None else sources)][:_MOST_FEATURES]
        is_linear = is_normal and not _explain(
            _quadratic(rows[few, :_TEST_DRAWS]),
            torch.stack([unit, unit.square() - 1.0], -1),
        )
        return cls(
            intercept=solved[-1],
            slopes=solved[:-1],
            scale=scale,
            kurtosis=kurtosis,
            is_linear_gaussian=is_linear,
        )


def residuals(
    columns: Float[Tensor, "draw column"], reads: Float[Tensor, "draw read"]
) -> Float[Tensor, "draw column"]:
    """What least squares on some columns leave of others, all with intercepts."""
    centred, design = columns - columns.mean(0), reads - reads.mean(0)
    return centred - design @ _solve(design.mT @ design, design.mT @ centred)


def _least_squares(
    rows: Float[Tensor, "column draw"],
    moments: Float[Tensor, "column column"],
    columns: list[int],
    column: int,
) -> Tensor:
    """Least-norm weights of some rows for another, by the smaller of two matrices.

    Products of draws say it where there are fewer of them than columns: with A of the
    columns, A' (A A')^+ = (A' A)^+ A'.
    """
    if len(columns) <= rows.shape[1]:
        return _solve(moments[columns][:, columns], moments[columns, column])
    read = rows[columns]
    return read @ _solve(read.T @ read, rows[column])


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Least-norm solution of the normal equations."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    sizes = factor.diagonal()
    if not failed and float(sizes.min()) > _WELL_APART * float(sizes.max()):
        rows = right.reshape(len(right), -1)
        return torch.cholesky_solve(rows, factor).view_as(right)
    solved: Tensor = torch.linalg.pinv(matrix, rtol=1e-12, hermitian=True) @ right
    return solved


def _combined(rows: Tensor, columns: list[int], weights: Tensor) -> Tensor:
    """The sum of some rows by their weights."""
    if 4 * len(columns) < len(rows):
        return weights @ rows[columns]
    every = weights.new_zeros(
        len(rows)
    )  # to look at all rows is less than to copy some
    every[columns] = weights
    return every @ rows


_WELL_APART = 1e-4
"""Least part of a column, beside the largest, that the others leave unexplained."""
STANDARD_ERRORS = 5.0
"""Distance from what chance explains that a test counts."""
_MOST_FEATURES = 60
"""Products of columns that the residual is tested against."""
_TEST_DRAWS = 20_000


def _quadratic(reads: Float[Tensor, "read draw"]) -> Float[Tensor, "feature draw"]:
    """Squares, products of neighbours, cubes, as many as are looked at."""
    enough = math.ceil(_MOST_FEATURES / max(1, len(reads)))
    return torch.cat([*islice(_products(reads), enough)])[:_MOST_FEATURES]


def _products(reads: Tensor) -> Iterator[Tensor]:
    bulk = reads.clamp(-4.0, 4.0)
    for shift in range(min(3, len(bulk))):
        yield bulk * bulk.roll(shift, 0)
    yield bulk.pow(3)


def _explain(
    features: Float[Tensor, "feature draw"], targets: Float[Tensor, "draw target"]
) -> bool:
    """Whether features explain more of a target than chance."""
    freedom = len(features)
    if freedom == 0:
        return False
    design = torch.cat([torch.ones_like(features[:1]), features])
    residual = targets - design.T @ _solve(design @ design.T, design @ targets)
    centred = targets - targets.mean(0)
    explained = 1.0 - residual.square().sum(0) / centred.square().sum(0)
    count = len(targets)
    return any(is_more_than_chance(e, freedom, count) for e in explained.tolist())


def is_more_than_chance(explained: float, freedom: int, num_draws: int) -> bool:
    """Whether so many regressors explain more of a variance than chance would.

    n R^2 is chi-square where they explain nothing.
    """
    chance: float = freedom + STANDARD_ERRORS * (2.0 * freedom) ** 0.5
    return num_draws * explained > chance

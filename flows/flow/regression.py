"""This file is least squares, with tests of what it leaves unexplained."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Regression"]


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
        columns = [*reads, draws.shape[1] - 1]
        solved = _solve(moments[columns][:, columns], moments[columns, column])
        residual = draws[:, column] - draws[:, columns] @ solved
        count = residual.numel()
        scale = (residual.square().sum() / max(1, count - len(columns))).sqrt()
        few = slice(0, _TEST_DRAWS)
        tested = residual[few]
        unit = (tested - tested.mean()) / tested.std()
        count = unit.numel()
        kurtosis = float(unit.pow(4).mean() - 3.0)
        is_normal = (
            abs(float(unit.pow(3).mean())) < _STANDARD_ERRORS * (6.0 / count) ** 0.5
            and abs(kurtosis) < _STANDARD_ERRORS * (24.0 / count) ** 0.5
        )
        features = _quadratic(draws[few][:, [*(reads if sources is None else sources)]])
        is_linear = is_normal and not any(
            _explains(features, moment) for moment in (unit, unit.square() - 1.0)
        )
        return cls(
            intercept=solved[-1],
            slopes=solved[:-1],
            scale=scale,
            kurtosis=kurtosis,
            is_linear_gaussian=is_linear,
        )


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Least-norm solution of the normal equations."""
    solved: Tensor = torch.linalg.pinv(matrix, rtol=1e-12, hermitian=True) @ right
    return solved


_STANDARD_ERRORS = 5.0
"""Distance from what chance explains that a test counts."""
_MOST_FEATURES = 60
"""Products of columns that the residual is tested against."""
_TEST_DRAWS = 20_000


def _quadratic(reads: Tensor) -> Tensor:
    """Squares, products of neighbours, cubes; clipped to the bulk."""
    bulk = reads[:, :_MOST_FEATURES].clamp(-4.0, 4.0)
    products = [bulk * bulk.roll(shift, -1) for shift in range(min(3, reads.shape[1]))]
    products.append(bulk.pow(3))
    return torch.cat(products, -1)[:, :_MOST_FEATURES]


def _explains(features: Tensor, target: Tensor) -> bool:
    """Whether features explain more of the target than chance: n R^2 is chi-square."""
    if features.shape[1] == 0:
        return False
    design = torch.cat([torch.ones_like(target[:, None]), features], -1)
    residual = target - design @ _solve(design.T @ design, design.T @ target)
    centred = target - target.mean()
    explained = 1.0 - residual.square().sum() / centred.square().sum()
    freedom = features.shape[1]
    bound = freedom + _STANDARD_ERRORS * (2.0 * freedom) ** 0.5
    return bool(float(explained) * target.numel() > bound)

r"""This file conditions Gaussian latents one by one where precisions lose their digits.

All factors are rows (c + B v) / s. With columns in the order of elimination, the last
sampled first, and [B / s] = Q R, row i of

    R v + Q^T c / s ~ N(0, I)

is the density of latent i given those sampled before it. No number is squared, so that
scales a millionth of others and below leave digits, where precisions bury them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .standardised import Standardised

__all__ = ["SquareRoot"]


@dataclass(frozen=True, slots=True, eq=False)
class SquareRoot:
    """Columns given those sampled before each, in descending order of their numbers.

    Attributes:
        root: R, its diagonal positive.
        offset: Q^T c / s.
    """

    root: Float[Tensor, "row column column"]
    offset: Float[Tensor, "row column"]

    @classmethod
    def of(
        cls,
        factors: Standardised,
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, "rows observed"],
    ) -> "SquareRoot":
        """Return the densities that factors say.

        Args:
            factors: All that have the columns.
            latents: All latents; the columns' values do not matter.
            observed: Data, one row for all or one for each.
        """
        matrix, rests, scales = factors.numbers(latents, observed)
        descending = torch.tensor(factors.order).argsort(descending=True)
        rows = matrix[..., descending] / scales.unsqueeze(-1)
        turn, root = torch.linalg.qr(rows)
        sign = torch.where(torch.diagonal(root, dim1=-2, dim2=-1) < 0.0, -1.0, 1.0)
        away = (turn.mT @ (rests / scales).unsqueeze(-1))[..., 0]
        return cls(root * sign.unsqueeze(-1), away * sign)

    @property
    def is_one(self) -> Bool[Tensor, " row"]:
        """Return in which rows there is a density."""
        is_finite = self.root.isfinite().all(-1) & self.offset.isfinite()
        return is_finite.all(-1) & (torch.diagonal(self.root, 0, -2, -1) > 0.0).all(-1)

    @property
    def log_roots(self) -> Float[Tensor, "row column"]:
        """Return log|det| of `to_residual` by columns, ascending."""
        return torch.diagonal(self.root, dim1=-2, dim2=-1).log().flip(-1)

    def to_residual(
        self, state: Float[Tensor, "row column"]
    ) -> Float[Tensor, "row column"]:
        """Return independent standard normals of columns, ascending."""
        turned = (self.root @ state.flip(-1).unsqueeze(-1))[..., 0]
        return (turned + self.offset).flip(-1)

    def from_residual(
        self, residual: Float[Tensor, "row column"]
    ) -> Float[Tensor, "row column"]:
        """Return columns of standard normals; undoes `to_residual`."""
        right = (residual.flip(-1) - self.offset).unsqueeze(-1)
        found: Tensor = torch.linalg.solve_triangular(self.root, right, upper=True)
        return found[..., 0].flip(-1)

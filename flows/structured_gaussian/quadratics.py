r"""This file is the logarithm of a learned potential, and the numbers that state it.

    log phi(w) = -1/2 |T w - m|^2 + l^T w,

T lower triangular with a positive diagonal. m carries what is sharp and l what is flat,
so that either may be learned with ease. The numbers of k predictors are, side by side,
those of T's diagonal (its logarithm, bent so that it keeps within bounds), T's rows
left of it, m, and l.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .elimination import square_of, times

__all__ = ["LEAST_ROOT", "Quadratic", "num_numbers"]

LEAST_ROOT = 0.05
"""Of T's diagonal at first, where draws say nothing of a predictor."""
_MOST_LOG_ROOT = 12.0
_LEAST_PRECISION = 1e-9
_LEAST_SCALE = 1e-4


def num_numbers(k: int) -> int:
    """How many numbers potentials of so many predictors have."""
    return 3 * k + k * (k - 1) // 2


@dataclass(frozen=True, slots=True, eq=False)
class Quadratic:
    """Potentials of as many predictors.

    Args:
        root: T.
        sharp: m.
        flat: l.
    """

    root: Float[Tensor, "*potential predictor predictor"]
    sharp: Float[Tensor, "*potential predictor"]
    flat: Float[Tensor, "*potential predictor"]

    @classmethod
    def from_numbers(
        cls, numbers: Float[Tensor, "*potential number"], k: int
    ) -> "Quadratic":
        """The potentials of k predictors that some numbers state."""
        below = k * (k - 1) // 2
        logs, lower, sharp, flat = torch.split(numbers, [k, below, k, k], -1)
        diagonal = (_MOST_LOG_ROOT * torch.tanh(logs / _MOST_LOG_ROOT)).exp()
        root = torch.diag_embed(diagonal)
        if below:
            row, column = torch.tril_indices(k, k, -1, device=numbers.device)
            strict = torch.zeros_like(root)
            strict[..., row, column] = lower
            root = root + strict
        return cls(root, sharp, flat)

    @property
    def numbers(self) -> Float[Tensor, "*potential number"]:
        """What states them; undone by `from_numbers`."""
        k = self.flat.shape[-1]
        logs = torch.diagonal(self.root, dim1=-2, dim2=-1).log()
        bent = _MOST_LOG_ROOT * torch.atanh(logs / _MOST_LOG_ROOT)
        row, column = torch.tril_indices(k, k, -1)
        return torch.cat([bent, self.root[..., row, column], self.sharp, self.flat], -1)

    @classmethod
    def from_natural(
        cls,
        precision: Float[Tensor, "*potential predictor predictor"],
        linear: Float[Tensor, "*potential predictor"],
    ) -> "Quadratic":
        """Those of a precision and a linear term; m is nought."""
        eye = _LEAST_PRECISION * torch.eye(linear.shape[-1]).to(precision)
        flipped = torch.linalg.cholesky((precision + eye).flip(-2, -1))
        return cls(flipped.flip(-2, -1).mT, torch.zeros_like(linear), linear)

    @property
    def natural(self) -> tuple[Tensor, Tensor]:
        """Precisions and linear terms."""
        return square_of(self.root), times(self.root.mT, self.sharp) + self.flat

    @classmethod
    def of_prior(cls, draws: Float[Tensor, "draw predictor"], own: int) -> "Quadratic":
        """T w - m as the standardised residuals of own predictors on those before.

        Args:
            draws: of the predictors.
            own: how many of the last are regressed.
        """
        k = draws.shape[-1]
        root = LEAST_ROOT * torch.eye(k).to(draws)
        sharp = draws.new_zeros(k)
        for row in range(k - own, k):
            slopes, constant, scale = _regression(draws[:, :row], draws[:, row])
            root[row, :row] = -slopes / scale
            root[row, row] = 1.0 / scale
            sharp[row] = constant / scale
        return cls(root, sharp, torch.zeros_like(sharp))

    @classmethod
    def of_likelihood(
        cls, draws: Float[Tensor, "draw predictor"], value: Float[Tensor, " draw"]
    ) -> tuple["Quadratic", Float[Tensor, " predictor"]]:
        """What a value of nought says by its regression, and how l grows with it.

        Args:
            draws: of the predictors.
            value: that they predict.
        """
        k = draws.shape[-1]
        slopes, constant, scale = _regression(draws, value)
        slopes = slopes / scale
        root = LEAST_ROOT * torch.eye(k).to(draws)
        sign = 1.0 if slopes[-1] >= 0.0 else -1.0
        root[-1, :-1] = sign * slopes[:-1]
        root[-1, -1] = slopes[-1].abs().clamp_min(LEAST_ROOT)
        flat = -slopes * constant / scale
        return cls(root, torch.zeros_like(flat), flat), slopes / scale


def _regression(read: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes, constant and residual scale of least squares."""
    design = torch.cat([read, torch.ones_like(value[:, None])], -1)
    inverse = torch.linalg.pinv(design.T @ design, rtol=1e-12, hermitian=True)
    solved = inverse @ (design.T @ value)
    scale = (value - design @ solved).square().mean().sqrt()
    return solved[:-1], solved[-1], scale.clamp_min(_LEAST_SCALE)

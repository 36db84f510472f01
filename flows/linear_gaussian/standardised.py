r"""This file integrates Gaussian latents out where precisions would lose their digits.

Their own factors are A v + r = D z with z ~ N(0, I), D their scales and A triangular,
which makes the other factors, (c + B v) / s, linear in z:

    k + K z,   K = s^-1 B A^-1 D,   k = s^-1 (c - B A^-1 r).

Scales D far below those of the data make K small, where the precisions D^-2 would bury
what the data say. With [K; 1] = Q R the integral is |k + K m|^2 + |m|^2 at the mean m
of z and log|R|: an orthogonal factorisation squares no number.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..model.schedule import Schedule
from ..model.standard_normal import HALF_LOG_TWO_PI
from .potentials import Potentials

__all__ = ["Standardised"]

_MOST_COLUMNS = 128
_MOST_NUMBERS = 2**22
"""Of the matrices of rows that are held at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """Of rows: the log densities of all factors integrated, and the law of the columns.

    Attributes:
        log_density: In nats.
        mean: Of the standardised columns.
        root: R, of their precision R^T R.
        away: r, of each column's own factor.
        scale: The diagonal of D.
        weights: A.
    """

    log_density: Float[Tensor, " row"]
    mean: Float[Tensor, "row column"]
    root: Float[Tensor, "row column column"]
    away: Float[Tensor, "row column"]
    scale: Float[Tensor, "row column"]
    weights: Float[Tensor, "row column column"]


@dataclass(frozen=True, eq=False)
class Standardised:
    """Factors of columns, as those of standard normals.

    Attributes:
        potentials: The factors.
        own: The factor of each column's own distribution, by the column's number.
        order: The columns, each after those that its mean reads.
    """

    potentials: Potentials
    own: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def is_small(self) -> bool:
        """Whether whole matrices serve."""
        return len(self.own) <= _MOST_COLUMNS

    @property
    def num_rows(self) -> int:
        """As many as are to be asked for at once."""
        return max(1, _MOST_NUMBERS // (len(self.own) * len(self.potentials.factors)))

    def log_density(self, latents: Tensor, observed: Tensor) -> Float[Tensor, " row"]:
        """Return the log of the product of all factors, integrated over the columns.

        Args:
            latents: All latents; those that are integrated out have any values.
            observed: Data, one row for all or one for each.
        """
        return self._solved(latents, observed).log_density

    @torch.no_grad()
    def drawn(
        self, latents: Tensor, observed: Tensor, *, generator: Generator
    ) -> Float[Tensor, "row column"]:
        """Return exact draws of the columns, by number."""
        solved = self._solved(latents, observed)
        noise = torch.randn(
            solved.mean.shape,
            generator=generator,
            dtype=latents.dtype,
            device=latents.device,
        )
        turned = torch.linalg.solve_triangular(
            solved.root, noise.unsqueeze(-1), upper=True
        )
        right = solved.scale * (solved.mean + turned[..., 0]) - solved.away
        found: Tensor = torch.linalg.solve_triangular(
            solved.weights, right.unsqueeze(-1), upper=False
        )
        places = torch.tensor(self.order).argsort()
        return torch.index_select(found[..., 0], 1, places)

    def _solved(self, latents: Tensor, observed: Tensor) -> _Solved:
        matrix, rests, scales = self.numbers(latents, observed)
        own = torch.tensor([self.own[column] for column in self.order])
        others = self._others
        weights, away, scale = matrix[:, own], rests[:, own], scales[:, own]
        # B A^-1, as the solution of its transpose.
        reach = torch.linalg.solve_triangular(
            weights, matrix[:, others], upper=False, left=False
        )
        noise = scales[:, others].unsqueeze(-1)
        slopes = reach * scale.unsqueeze(1) / noise
        gap = rests[:, others].unsqueeze(-1) - reach @ away.unsqueeze(-1)
        gap = gap / noise
        one = torch.eye(len(own), dtype=latents.dtype, device=latents.device)
        stacked = torch.cat([slopes, one.expand(len(latents), -1, -1)], 1)
        turn, root = torch.linalg.qr(stacked)
        at_zero = torch.cat([gap, gap.new_zeros(len(latents), len(own), 1)], 1)
        mean = -torch.linalg.solve_triangular(root, turn.mT @ at_zero, upper=True)
        residual = (at_zero + stacked @ mean).square().sum((1, 2))
        log_root = torch.diagonal(root, dim1=-2, dim2=-1).abs().log().sum(-1)
        found = -0.5 * residual - log_root - noise.log().sum((1, 2))
        found = found - len(others) * HALF_LOG_TWO_PI
        found = torch.where((scale > 0.0).all(1), found, math.nan)
        return _Solved(found, mean[..., 0], root, away, scale, weights)

    # -------------------------------------------------------------- numbers

    def numbers(
        self,
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, "rows observed"],
    ) -> tuple[
        Float[Tensor, "row factor column"],
        Float[Tensor, "row factor"],
        Float[Tensor, "row factor"],
    ]:
        """Return the factors' coefficients, columns in `order`; rests and scales.

        Args:
            latents: All latents; those that are integrated out have any values.
            observed: Data, one row for all or one for each.
        """
        num, factors = len(latents), self.potentials.factors
        (found,) = self._schedule.run(
            [latents.t().contiguous(), observed.t().contiguous()],
            num_rows=num,
            like=latents,
        )
        found = found.expand(-1, num).t()
        rests, scales, entries = torch.split(
            found, [len(factors), len(factors), len(self._entries)], 1
        )
        matrix = latents.new_zeros(num, len(factors) * len(self.own))
        matrix = matrix.index_copy(1, self._entries, entries)
        return matrix.reshape(num, len(factors), -1), rests, scales

    @cached_property
    def _others(self) -> Tensor:
        """Numbers of the factors that are no column's own."""
        own = set(self.own)
        found = [n for n in range(len(self.potentials.factors)) if n not in own]
        return torch.tensor(found, dtype=torch.long)

    @cached_property
    def _entries(self) -> Tensor:
        """Places of the coefficients among all, factor by factor."""
        place = {column: number for number, column in enumerate(self.order)}
        return torch.tensor(
            [
                number * len(self.own) + place[column]
                for number, factor in enumerate(self.potentials.factors)
                for column in factor.residual.coefficients
            ]
        )

    @cached_property
    def _schedule(self) -> Schedule:
        factors = self.potentials.factors
        slots = [factor.residual.rest for factor in factors]
        slots += [factor.scale for factor in factors]
        for factor in factors:
            slots += factor.residual.coefficients.values()
        return Schedule.of(self.potentials.dag, self.potentials.sources, [tuple(slots)])

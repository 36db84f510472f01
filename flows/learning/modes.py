r"""This file draws the latents of each row around the modes of their posterior.

At given parameters θ the log density log p(f, x | θ) of a row's latents, in free
coordinates f, is climbed from a few draws of the prior, all rows at once. Around each
top m, with H the curvature there, half of the draws are of N(m, H⁻¹) and half of a
Student's t of the same location and scale: where a row's posterior is normal the first
are draws of it, and the tails of the second bound the weights elsewhere. A top counts
by the mass that Laplace's approximation gives it; two ways to the same top count twice,
which weights make good. Rows that have another shape are refitted (`refit.py`).

References:
    Tierney and Kadane (1986), Accurate approximations for posterior moments and
    marginal densities, JASA 81.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..inference.ascent import climbed
from ..inference.curvature import Curvature, curvature
from ..inference.heavy_tails import heavy_log_density, heavy_spread
from .likelihood import Likelihood, RowDraws, Rows, Values
from .parted import PartedModel
from .refit import CENTRES, PriorOfRows, refitted

__all__ = ["ModeDrawing", "nats_missed"]

_CANDIDATES = 16
"""Draws of the prior, of which the best one is a start."""
_MOST_NUMBERS = 2**23
_MORE = 6
_CHECKED_ROWS, _CHECKED_DRAWS = 100, 200


@dataclass(frozen=True, slots=True, eq=False)
class ModeDrawing:
    """Normals and Student's t around the modes of each row; see `likelihood.Drawing`.

    Attributes:
        parted: The model.
        num_starts: Places from which a row climbs.
    """

    parted: PartedModel
    num_starts: int = 3

    @property
    def is_exact(self) -> bool:
        """False: what is drawn is weighted."""
        return False

    @torch.no_grad()
    def draw(
        self, values: Values, data: Rows, num: int, *, generator: Generator
    ) -> RowDraws:
        """Return draws for each row, given parameters."""
        observed = self.parted.observed(values, data)
        size = self.parted.target.layout.free_dim
        starts = self.num_starts * max(40, 2 * size)
        numbers = size * max(starts, CENTRES * max(num, 64))
        step = max(1, _MOST_NUMBERS // numbers)
        parts = [self._drawn(x, num, generator) for x in torch.split(observed, step)]
        latents, log_prob = zip(*parts, strict=True)
        return RowDraws(torch.cat(latents, 1), torch.cat(log_prob, 1))

    def _drawn(
        self, observed: Tensor, num: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return natural values [draw, row, latent] and log densities [draw, row]."""
        target = self.parted.target
        around = refitted(
            _Around.of(self._density(observed), self._starts(observed, generator)),
            PriorOfRows(target, observed),
            lambda free: target.log_joint_free(free, observed),
            num,
            generator=generator,
        )
        free = around.sample(num, generator=generator)
        latents, log_det = target.constrain(free)
        return latents, around.log_prob(free) - log_det

    def _density(self, observed: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the log density of places, each with the number of its row."""

        def density(free: Tensor, rows: Tensor) -> Tensor:
            data = observed[rows % len(observed)]
            return self.parted.target.log_joint_free(free, data)

        return density

    def _starts(
        self, observed: Tensor, generator: Generator
    ) -> Float[Tensor, "start row free"]:
        """Return the best of some draws of the prior for each row, several times."""
        target = self.parted.target
        drawn = target.sample_latents(
            self.num_starts * _CANDIDATES, generator=generator, observed=observed[0]
        )
        free, _ = target.unconstrain(drawn)
        free = free.nan_to_num(0.0, 0.0, 0.0)
        num, rows = len(free), len(observed)
        heights = target.log_joint_free(
            free.repeat_interleave(rows, 0), observed.repeat(num, 1)
        ).view(num, rows)
        grouped = heights.nan_to_num(nan=-math.inf).view(
            self.num_starts, _CANDIDATES, -1
        )
        best = grouped.argmax(1)
        first = _CANDIDATES * torch.arange(self.num_starts).unsqueeze(1)
        return free[first + best]


def nats_missed(
    likelihood: Likelihood, values: Values, *, generator: Generator
) -> float:
    """Return by how much more starts raise the log likelihood of a row, on average.

    That is 0 but for noise where all modes of a row are found.

    Args:
        likelihood: Of the rows; some of them are looked at.
        values: Of the parameters.
        generator: Source of draws.
    """
    some = Likelihood(likelihood.parted, likelihood.data[:_CHECKED_ROWS])
    few = ModeDrawing(some.parted)
    many = ModeDrawing(some.parted, _MORE * few.num_starts)
    rows = [
        some.terms(
            values, each.draw(values, some.data, _CHECKED_DRAWS, generator=generator)
        ).log_likelihood
        for each in (few, many)
    ]
    gained = rows[1] - rows[0]
    return float(gained[gained.isfinite()].mean())


@dataclass(frozen=True, slots=True, eq=False)
class _Around:
    """Mixtures of normals and Student's t, one mixture for each row.

    Attributes:
        log_shares: Log of each component's share.
        locations: Where each component stands.
        curvature: At each component.
    """

    log_shares: Float[Tensor, "top row"]
    locations: Float[Tensor, "top row free"]
    curvature: Curvature

    @classmethod
    def of(
        cls,
        density: Callable[[Tensor, Tensor], Tensor],
        starts: Float[Tensor, "top row free"],
    ) -> "_Around":
        """Return what is around the tops that rows climb to."""
        shape = starts.shape[:2]
        with torch.enable_grad():
            reached = climbed(density, starts.flatten(0, 1))
        bent = curvature(density, reached.places)
        mass = reached.heights - 0.5 * bent.scales.log().sum(-1)
        mass = mass.nan_to_num(-math.inf, -math.inf, -math.inf).view(shape)
        shares = mass.log_softmax(0).nan_to_num(-math.log(len(mass)))
        return cls(shares, reached.places.view(starts.shape), bent.view(*shape))

    def sample(
        self, num: int, *, generator: Generator
    ) -> Float[Tensor, "draw row free"]:
        """Return independent draws."""
        rows, size = self.locations.shape[1:]
        which = torch.multinomial(
            self.log_shares.exp().T, num, replacement=True, generator=generator
        ).T
        noise = torch.randn(num, rows, size, dtype=torch.float64, generator=generator)
        spread = heavy_spread(num, rows, generator=generator)
        is_normal = torch.rand(num, rows, dtype=torch.float64, generator=generator)
        stretch = torch.where(is_normal < 0.5, 1.0, spread.rsqrt()).unsqueeze(-1)
        number = torch.arange(rows)
        moved = self.curvature.at(which, number).unwhitened(noise * stretch)
        return self.locations[which, number] + moved

    def log_prob(
        self, free: Float[Tensor, "draw row free"]
    ) -> Float[Tensor, "draw row"]:
        """Return the log density of draws."""
        size = free.shape[-1]
        z = self.curvature.whitened(free.unsqueeze(1) - self.locations)
        distance = z.square().sum(-1)
        heavy = heavy_log_density(distance, size)
        normal = -0.5 * (distance + size * math.log(2.0 * math.pi))
        both = torch.logaddexp(heavy, normal) - math.log(2.0)
        log_det = 0.5 * self.curvature.scales.log().sum(-1)
        return (self.log_shares + both + log_det).logsumexp(1)

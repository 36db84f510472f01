r"""This file is a normal density on the line by three values of its logarithm.

Where log f is a parabola, its values v_-, v_0, v_+ at m - h, m, m + h say all of it:

    log f(z) = v_0 + b (z - m) + a (z - m)^2,
    b = (v_+ - v_-) / 2h,   a = (v_+ + v_- - 2 v_0) / 2h^2,
    log ∫ f dz = v_0 - b^2 / 4a + ½ log(π / -a).

The first points may lie far out, where the values are large numbers with roundings to
match; the next are two deviations around the top that the first say, until it lies
between them. Where it never does, as roundings are all that is left, there is nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.standard_normal import HALF_LOG_TWO_PI
from .grid import NOTHING

__all__ = ["Normals", "fitted_normals"]

_AROUND = 2.0
"""Deviations from the top to the points beside it."""
_MOST_LOOKS = 4

Entries = Float[Tensor, "*entry"]
Points = Float[Tensor, "*entry point"]


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """A normal density for each entry, up to a constant.

    Attributes:
        mean: Where it is largest.
        scale: Its standard deviation.
        total: Its log integral, in nats; `NOTHING` where there is no density.
    """

    mean: Entries
    scale: Entries
    total: Entries

    @classmethod
    def of(cls, middle: Entries, step: Entries, values: Points) -> "Normals":
        """Return the densities of values at a middle, and a step below and above.

        Args:
            middle: Of three points.
            step: Between them.
            values: Logarithms at the lowest, the middle and the highest.
        """
        is_one = torch.isfinite(values).all(-1)
        low, top, high = torch.where(is_one[..., None], values, 0.0).unbind(-1)
        slope = 0.5 * (high - low) / step
        bend = (2.0 * top - low - high) / step.square()
        is_one = is_one & (bend > 0.0) & bend.isfinite() & slope.isfinite()
        bend = torch.where(is_one, bend, step.square().reciprocal())
        slope, top = (torch.where(is_one, each, 0.0) for each in (slope, top))
        total = top + 0.5 * slope.square() / bend + HALF_LOG_TWO_PI - 0.5 * bend.log()
        return cls(
            middle + slope / bend, bend.rsqrt(), torch.where(is_one, total, NOTHING)
        )

    def log_integral(self) -> Entries:
        """Return the log integral over the line."""
        return self.total

    def log_prob(
        self, at: Float[Tensor, "*entry draw"]
    ) -> Float[Tensor, "*entry draw"]:
        """Return log densities, which integrate to one."""
        apart = (at - self.mean[..., None]) / self.scale[..., None]
        return -0.5 * apart.square() - HALF_LOG_TWO_PI - self.scale.log()[..., None]

    def quantile(
        self, share: Float[Tensor, "*entry draw"]
    ) -> Float[Tensor, "*entry draw"]:
        """Return where the distribution function has the values of `share`."""
        share = share.clamp(2.0**-53, 1.0 - 2.0**-53)
        deviations: Tensor = torch.special.ndtri(share)
        return self.mean[..., None] + self.scale[..., None] * deviations


def fitted_normals(
    log_density: Callable[[Points], Points], middle: Entries, step: Entries
) -> Normals:
    """Return the densities whose logarithms are parabolas.

    Args:
        log_density: Logarithms at points, in nats; may carry gradients by what else
            they depend on.
        middle: Of three points to begin from.
        step: Between them.
    """
    with torch.no_grad():
        found = Normals.of(middle, step, log_density(_three(middle, step)))
    for _ in range(_MOST_LOOKS):
        middle, step = found.mean.detach(), _AROUND * found.scale.detach()
        found = Normals.of(middle, step, log_density(_three(middle, step)))
        is_between = (found.mean - middle).abs() <= step
        if bool(is_between.all()):
            return found
    return replace(found, total=torch.where(is_between, found.total, NOTHING))


def _three(middle: Entries, step: Entries) -> Points:
    return torch.stack([middle - step, middle, middle + step], -1)

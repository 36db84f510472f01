r"""This file is a density on the line by its values at points, one for each entry.

Between points s_1 < ... < s_n the logarithm is linear, beyond them the density falls as
(1 + |s - s_end| / length)^-2, so that it is positive everywhere and heavier than what
it stands for, but where that has no mean. Integral, distribution function and quantiles
have closed forms.

Points are found without derivatives (`fitted`): from a few that are spread over all
that the prior allows, some more are put between the neighbours of the best one, evenly
and around the top of the parabola through the three, and where the density so far has
its mass, a few times. Where much of it is in one gap all the same, as of a density far
narrower than the prior, the search begins again from points where the mass is. The rest
of the points go where its cube root has mass, which equalises the error of a logarithm
that is linear between points. The search may be in a lower precision; values at the
points that it finds are in that of the others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["NOTHING", "Grid", "fitted"]

_ZOOMS = 2
_EVENLY = 6
_BY_MASS = 8
_AROUND = (-2.5, -1.0, 0.0, 1.0, 2.5)
"""Scales from the top of a parabola, whose curvature is one over their square."""
_LAST = 32
_MOST_MASS = 0.3
"""Of the whole, in one gap: more, and the search begins again there."""
_RESTARTS = 3
_OUTER = 4
_FLAT = 1.0 / 3.0
_DEPTH = 60.0
"""Nats below the largest value that no value is below."""
NOTHING = -1e30
"""The logarithm of a density that is 0 everywhere, about."""
_TINY = 1e-6

Points = Float[Tensor, "*entry point"]
Entries = Float[Tensor, "*entry"]
Rows = Int[Tensor, " row"]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A density for each entry.

    Attributes:
        points: Increasing.
        values: Logarithms of the density there, up to a constant, in nats.
        lengths: Of the tail below, and of that above.
    """

    points: Points
    values: Points
    lengths: tuple[Entries, Entries]

    @classmethod
    def of(cls, points: Points, values: Points) -> "Grid":
        """Return the density of some values; those that are nothing nearly so."""
        with torch.no_grad():
            floor = values.amax(-1, keepdim=True).clamp(min=NOTHING) - _DEPTH
        values = torch.maximum(values, floor)
        with torch.no_grad():
            span = points[..., -1] - points[..., 0]
            slope = values.diff(dim=-1) / points.diff(dim=-1).clamp(min=1e-300)
            lengths = tuple(
                1.0 / torch.maximum(side * slope[..., end], 1.0 / span)
                for side, end in ((1.0, 0), (-1.0, -1))
            )
        return cls(points, values, (lengths[0], lengths[1]))

    def log_masses(self) -> Points:
        """Return log integrals: of the tail below, of each gap, of the tail above."""
        low, high = (
            self.values[..., end] + length.log()
            for end, length in zip((0, -1), self.lengths, strict=True)
        )
        left, right = self.values[..., :-1], self.values[..., 1:]
        rise = (right - left).abs()
        is_flat = rise < _TINY
        steep = torch.where(is_flat, 1.0, rise)
        shape = torch.where(is_flat, -0.5 * rise, (-torch.expm1(-steep) / steep).log())
        gaps = self.points.diff(dim=-1).log() + torch.maximum(left, right) + shape
        return torch.cat([low[..., None], gaps, high[..., None]], -1)

    def log_integral(self) -> Entries:
        """Return the log integral over the line."""
        return torch.logsumexp(self.log_masses(), -1)

    def log_prob(
        self, at: Float[Tensor, "*entry draw"]
    ) -> Float[Tensor, "*entry draw"]:
        """Return log densities, which integrate to one."""
        last = self.points.shape[-1] - 1
        place = torch.searchsorted(self.points, at).clamp(1, last)
        start, end = self.points.gather(-1, place - 1), self.points.gather(-1, place)
        low, high = self.values.gather(-1, place - 1), self.values.gather(-1, place)
        inside = low + (high - low) * (at - start) / (end - start)
        below, above = self.points[..., :1] - at, at - self.points[..., -1:]
        down, up = (length[..., None] for length in self.lengths)
        found = torch.where(
            below > 0,
            self.values[..., :1] - 2.0 * torch.log1p(below.clamp(min=0) / down),
            torch.where(
                above > 0,
                self.values[..., -1:] - 2.0 * torch.log1p(above.clamp(min=0) / up),
                inside,
            ),
        )
        return found - self.log_integral()[..., None]

    def quantile(
        self, share: Float[Tensor, "*entry draw"]
    ) -> Float[Tensor, "*entry draw"]:
        """Return where the distribution function has the values of `share`."""
        masses = torch.softmax(self.log_masses(), -1)
        upper = masses.cumsum(-1)
        last = masses.shape[-1] - 1
        place = torch.searchsorted(upper.detach(), share.detach()).clamp(max=last)
        mass = masses.gather(-1, place)
        part = (share - upper.gather(-1, place) + mass) / mass
        part = part.clamp(2.0**-53, 1.0 - 2.0**-53)
        gap = place.clamp(1, last - 1)
        start, end = self.points.gather(-1, gap - 1), self.points.gather(-1, gap)
        low, high = self.values.gather(-1, gap - 1), self.values.gather(-1, gap)
        rise = high - low
        is_flat = rise.abs() < _TINY
        steep = torch.where(is_flat, 1.0, rise)
        curved = torch.log1p(part * torch.expm1(steep)) / steep
        inside = start + (end - start) * torch.where(is_flat, part, curved)
        down, up = (length[..., None] for length in self.lengths)
        below = self.points[..., :1] - down * (1.0 / part - 1.0)
        above = self.points[..., -1:] + up * (1.0 / (1.0 - part) - 1.0)
        return torch.where(place == 0, below, torch.where(place == last, above, inside))


def fitted(
    log_density: Callable[[Points, Rows], Points],
    start: Float[Tensor, "row *line point"],
    precision: torch.dtype = torch.float32,
) -> Grid:
    """Return the density on points that suit it.

    Args:
        log_density: Logarithms at points of some rows, in nats; may carry gradients by
            what else they depend on.
        start: Points to begin from, increasing.
        precision: Of the search.
    """
    every = torch.arange(len(start), device=start.device)
    with torch.no_grad():
        points, values = _searched(log_density, start.to(precision), every)
        coarse = every
        for _ in range(_RESTARTS):
            coarse = coarse[_is_coarse(points[coarse], values[coarse])]
            if not len(coarse):
                break
            again = _again(points[coarse], values[coarse], start.shape[-1])
            points[coarse], values[coarse] = _searched(log_density, again, coarse)
        last = _by_mass(points, values, _FLAT, _LAST)
        points = _apart(torch.cat([points, last], -1).to(start).sort(-1).values)
    values = log_density(points, every)
    return Grid.of(points, values.nan_to_num(nan=-math.inf))


def _searched(
    log_density: Callable[[Points, Rows], Points], points: Tensor, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Return more points, and values there, of some rows."""
    values = _known(log_density(points, rows))
    for _ in range(_ZOOMS):
        more = [_at_top(points, values), _by_mass(points, values, 1.0, _BY_MASS)]
        added = torch.cat(more, -1)
        joined, order = torch.cat([points, added], -1).sort(-1)
        found = torch.cat([values, _known(log_density(added, rows))], -1)
        points, values = _apart(joined), found.gather(-1, order)
    return points, values


def _is_coarse(points: Tensor, values: Tensor) -> Bool[Tensor, " row"]:
    """Return whether one of a row's densities has much of its mass in one gap."""
    grid = Grid.of(points, values - values.amax(-1, keepdim=True))
    largest = torch.softmax(grid.log_masses(), -1).amax(-1)
    return (largest > _MOST_MASS).reshape(len(points), -1).any(-1)


def _again(points: Tensor, values: Tensor, count: int) -> Tensor:
    """Return points to begin from again: the outermost, and some where the mass is."""
    inner = _by_mass(points, values, _FLAT, count - 2 * _OUTER)
    ends = (points[..., :_OUTER], points[..., -_OUTER:])
    return _apart(torch.cat([*ends, inner], -1).sort(-1).values)


def _known(values: Tensor) -> Tensor:
    return values.nan_to_num(nan=NOTHING, neginf=NOTHING).clamp(min=NOTHING)


def _middles(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count


def _by_mass(points: Tensor, values: Tensor, power: float, count: int) -> Tensor:
    """Quantiles of a power of the density."""
    best = values.amax(-1, keepdim=True)
    share = _middles(count, points).expand(*points.shape[:-1], count).contiguous()
    return Grid.of(points, power * (values - best)).quantile(share)


def _at_top(points: Tensor, values: Tensor) -> Tensor:
    """Points between the neighbours of the best one."""
    best = values.argmax(-1, keepdim=True).clamp(1, points.shape[-1] - 2)
    low, middle, high = (points.gather(-1, best + k) for k in (-1, 0, 1))
    least, most, other = (values.gather(-1, best + k) for k in (-1, 0, 1))
    rise, fall = (most - least) / (middle - low), (other - most) / (high - middle)
    bend = ((rise - fall) / (0.5 * (high - low))).clamp(min=1e-30)
    top = middle + (0.5 * (rise + fall)) / bend
    around = top + points.new_tensor(_AROUND) * bend.rsqrt()
    evenly = low + (high - low) * _middles(_EVENLY, points)
    return torch.cat([torch.minimum(torch.maximum(around, low), high), evenly], -1)


def _apart(points: Tensor) -> Tensor:
    """Points with those that coincide moved by roundings."""
    size = points.abs().amax(-1, keepdim=True).clamp(min=1.0)
    step = 16 * torch.finfo(points.dtype).eps * size
    number = torch.arange(points.shape[-1], dtype=points.dtype, device=points.device)
    return torch.cummax(points - step * number, -1).values + step * number

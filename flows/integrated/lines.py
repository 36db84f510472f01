r"""This file evaluates conditionals of latents on the line, and fits densities to them.

Conditionals that do not read each other's latents are evaluated together: all of these
latents change at once, point by point, and each adds up the factors that are its own.
Where a link function has no meaning the density is nothing. A conditional that is
normal (`linearity.py`) takes six points, any other the hundred or so of a grid.
"""

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..model.model import Model
from .conditionals import Conditional
from .grid import NOTHING, Grid, fitted
from .normal import Normals, fitted_normals

__all__ = ["LineDensities", "Lines", "NormalLines", "lines_of"]

_START_DRAWS = 10_000
_PRECISION_DRAWS = 1_000
_POINTS = 33
_FARTHEST = 3.0
"""Deviations of a normal, evenly up to which the first points are quantiles."""
_BEYOND = (0.1, 0.3, 1.0, 4.0)
"""Widths between the outermost levels that the first points go beyond them."""
_FIRST_POINTS = (5, 16, 27)
"""Of the points up to there: about two deviations below, the middle, and above."""
_MOST_OFFSET = 100.0
"""Quartiles apart from 0, up to which single precision tells points apart."""
_MOST_NUMBERS = 2**23
"""Held at once while no gradients are kept; more rows are taken in parts."""


class LineDensities(Protocol):
    """A density on the line for each row and line, up to a constant."""

    def log_integral(self) -> Float[Tensor, "row line"]:
        """Return the log integral over the line, in nats."""

    def log_prob(
        self, at: Float[Tensor, "row line draw"]
    ) -> Float[Tensor, "row line draw"]:
        """Return log densities, which integrate to one."""

    def quantile(
        self, share: Float[Tensor, "row line draw"]
    ) -> Float[Tensor, "row line draw"]:
        """Return where the distribution function has the values of `share`."""


class Lines:
    """Some conditionals of a model, none of which reads a latent of the others.

    Args:
        model: The model.
        conditionals: Of these latents.
    """

    def __init__(self, model: Model, conditionals: Sequence[Conditional]) -> None:
        self._model = model.forgiving()
        self.conditionals = tuple(conditionals)
        self._names = tuple(dict.fromkeys(f for c in conditionals for f in c.factors))
        number = {name: place for place, name in enumerate(self._names)}
        pairs = [
            (place, number[f])
            for place, c in enumerate(conditionals)
            for f in c.factors
        ]
        self._line_of, self._factor_of = torch.tensor(pairs).reshape(-1, 2).T
        position = {v.name: place for place, v in enumerate(model.layout.latents)}
        self._positions = [position[c.name] for c in conditionals]
        self.columns = [
            model.layout.variable(c.name).free_start for c in self.conditionals
        ]

    @cached_property
    def precision(self) -> torch.dtype:
        """Of a search: double where values are far from 0 for their spread."""
        generator = torch.Generator().manual_seed(0)
        drawn = self._model.sample(_PRECISION_DRAWS, generator=generator)
        free = self._model.unconstrain(drawn.latents.double())[0]
        numbers = torch.cat([free, drawn.observed.double()], -1).sort(0).values
        low, middle, high = numbers[_PRECISION_DRAWS // 4 :: _PRECISION_DRAWS // 4][:3]
        is_far = middle.abs() > _MOST_OFFSET * (high - low)
        is_far &= high > low  # what never changes is nobody's argument
        return torch.float64 if bool(is_far.any()) else torch.float32

    @cached_property
    def start(self) -> Float[Tensor, "line point"]:
        """Points in free coordinates that cover the prior."""
        generator = torch.Generator().manual_seed(0)
        model = self._model
        drawn = model.sample_latents(_START_DRAWS, generator=generator)
        drawn = drawn[~torch.isnan(drawn).any(-1)]
        free = model.unconstrain(drawn.double())[0][:, self.columns]
        even = torch.linspace(-_FARTHEST, _FARTHEST, _POINTS, dtype=free.dtype)
        inner = torch.quantile(free, torch.special.ndtr(even), dim=0).T
        low, high = inner[:, :1], inner[:, -1:]
        beyond = free.new_tensor(_BEYOND) * (high - low)
        return torch.cat([low - beyond.flip(1), inner, high + beyond], 1)

    def densities(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> LineDensities:
        """Return the densities of the latents in free coordinates, [row, line].

        Args:
            free: Of all latents of the model; columns of these are not looked at.
            observed: Observed values.
        """
        return self.grids(free, observed)

    def log_integral(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> Float[Tensor, " row"]:
        """Return the log of all factors, integrated; see `level.Level`."""
        integrals = self.densities(free, observed).log_integral()
        is_nothing = integrals.detach() < 0.5 * NOTHING
        return integrals.masked_fill(is_nothing, -math.inf).sum(-1)

    def completed(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
        base: Float[Tensor, "row line"],
        is_known: Bool[Tensor, " line"],
    ) -> tuple[Float[Tensor, "row line"], Float[Tensor, "row line"]]:
        """Return values of the latents, and log densities; see `level.Level`."""
        density = self.densities(free, observed)
        values = free[:, self.columns]
        if not bool(is_known.all()):
            share = torch.special.ndtr(base)[..., None]
            drawn = density.quantile(share)[..., 0]
            values = torch.where(is_known, values.to(drawn), drawn)
        return values, density.log_prob(values[..., None])[..., 0]

    def grids(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> Grid:
        """Return them by their values on grids; see `densities`."""
        start = self.start.to(free).expand(len(free), -1, -1).contiguous()
        width = 4 * start.shape[-1] * (free.shape[-1] + len(self._names))
        parts = _in_parts(width, start, free, observed)
        grids = [self._grids(*part) for part in parts]
        lengths = [torch.cat([g.lengths[end] for g in grids]) for end in (0, 1)]
        return Grid(
            torch.cat([g.points for g in grids]),
            torch.cat([g.values for g in grids]),
            (lengths[0], lengths[1]),
        )

    def _grids(self, start: Tensor, free: Tensor, observed: Tensor) -> Grid:
        def log_density(points: Tensor, of: Tensor) -> Tensor:
            return self._at(points, free[of], observed[of])

        return fitted(log_density, start, self.precision)

    def _at(self, points: Tensor, free: Tensor, observed: Tensor) -> Tensor:
        """Logarithms at points of each row and line, [row, line, point]."""
        rows = free.to(points).expand(points.shape[-1], -1, -1).clone()
        rows[..., self.columns] = points.permute(2, 0, 1)
        found = self.log_densities(rows, observed.to(points))
        return found.permute(1, 2, 0).contiguous()

    def log_densities(
        self,
        free: Float[Tensor, "point row free"],
        observed: Float[Tensor, "row observed"],
    ) -> Float[Tensor, "point row line"]:
        """Return the conditionals at free coordinates, up to constants, in nats."""
        model = self._model
        natural, _ = model.constrain(free)
        terms = model.log_terms_of(self._names, natural, observed)
        line_of, factor_of = (
            each.to(terms.device) for each in (self._line_of, self._factor_of)
        )
        none = terms.new_zeros(*terms.shape[:-1], len(self.conditionals))
        own = none.index_add(-1, line_of, terms[..., factor_of])
        return own + model.constrain_terms(free)[..., self._positions]


class NormalLines(Lines):
    """Conditionals that are normal."""

    def densities(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> LineDensities:
        """Return the densities of the latents, [row, line], exactly."""
        places = torch.tensor(_FIRST_POINTS) + len(_BEYOND)
        start = self.start[:, places].to(free.device)
        width = 8 * len(places) * (free.shape[-1] + len(self._names))
        parts = [
            self._normals(start, *part)
            for part in _in_parts(width, free.double(), observed.double())
        ]
        return Normals(
            torch.cat([each.mean for each in parts]),
            torch.cat([each.scale for each in parts]),
            torch.cat([each.total for each in parts]),
        )

    def _normals(self, start: Tensor, free: Tensor, observed: Tensor) -> Normals:
        middle = start[:, 1].expand(len(free), -1)
        step = (0.5 * (start[:, 2] - start[:, 0])).expand(len(free), -1)
        return fitted_normals(lambda at: self._at(at, free, observed), middle, step)


def lines_of(
    model: Model, conditionals: Sequence[Conditional], normals: Collection[str]
) -> tuple[Lines, ...]:
    """Return conditionals, none of which reads a latent of the others, by their sort.

    Args:
        model: The model.
        conditionals: Of some of its latents.
        normals: Names of those that are normal (`linearity.normal_ones`).
    """
    normal = [each for each in conditionals if each.name in normals]
    others = [each for each in conditionals if each not in normal]
    found: list[Lines] = []
    if others:
        found.append(Lines(model, others))
    if normal:
        found.append(NormalLines(model, normal))
    return tuple(found)


def _in_parts(width: int, *rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Rows of so many numbers in parts that fit into memory.

    All at once where gradients are kept.
    """
    most = max(1, _MOST_NUMBERS // width)
    if torch.is_grad_enabled() or len(rows[0]) <= most:
        return [rows]
    return list(zip(*(torch.split(each, most) for each in rows), strict=True))

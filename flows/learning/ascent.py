r"""This file climbs to the parameters of the largest posterior density.

Of many rows a climb by minibatches comes first (Adam, fresh draws in each step). Then,
in rounds: latents of all rows are drawn at the parameters θ0 that are reached, and the
surface on these draws is climbed to its top within a few standard errors of θ0, where
the draws serve (L-BFGS). Rounds end where the top moves less than its error; draws are
doubled where their noise explains the move, until what they add to the error is small.
How far a round moves is told by what it gains, m²/2 nats for m standard errors: a
surface that is flat towards the edge of what is possible ends the rounds as well. Where
the likelihood is exact the first round reaches the top and the second one says so.

Scores of rows give the scale of the steps: the inverse root of their scatter.

References:
    Byrd, Lu, Nocedal, Zhu (1995), A limited memory algorithm for bound constrained
    optimization, SIAM Journal on Scientific Computing 16(5).
    Kingma and Ba (2015), Adam, https://arxiv.org/abs/1412.6980
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import Generator

from ..errors import InferenceError
from ..model.capabilities import listed
from .coordinates import Place, UnitCoordinates
from .likelihood import Drawing, Likelihood
from .parted import prior_draws
from .surface import Square, Surface

__all__ = ["Round", "ascend", "climb", "start"]

_STARTS = 64
_START_ROWS = 50
_START_DRAWS = 8
_TOPS = 5
_TOP_ROWS = 200
_TOP_STRETCHES = 3
"""On the way to each of the tops, with new draws at the beginning of each."""

_BATCH = 64
_MANY = 256
"""Rows beyond which a climb by minibatches comes first."""
_CLIMB_DRAWS = 16
_RATES = (0.1, 0.003)

_FIRST_DRAWS = 128
_MOST_DRAWS = 4096
_MOST_OF_ALL = 2**19
"""Most draws of a row, and of all rows."""
_REACH = 4.0
_LONGEST = 1.0
"""Standard errors, and units of the prior, that a round may go: so far draws serve."""
_STILL = 0.2
_EXACTLY_STILL = 1e-3
"""Standard errors that a round moves no more at the end."""
_MOST_NOISE, _MOST_NOISE_OF_EACH = 1.0, 0.25
"""Standard errors that a round may move for the noise of its draws alone."""
_QUIET = 0.1
"""Standard errors that draws add at the end."""
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One round of the ascent.

    Attributes:
        number: From 1.
        place: The top that it found.
        surface: On its draws.
        scale: A standard error of each coordinate, by the scatter of scores.
        value: Log posterior density there, up to a constant, in nats.
        moved: How far it went, in standard errors: the root of twice the nats gained.
        noise: What draws add to an error, in standard errors.
        is_top: Whether the ascent has come to its end.
    """

    number: int
    place: Place
    surface: Surface
    scale: Place
    value: float
    moved: float
    noise: float
    is_top: bool


def start(
    likelihood: Likelihood,
    coordinates: UnitCoordinates,
    drawing: Drawing,
    *,
    generator: Generator,
    is_over: Callable[[], bool] = lambda: False,
) -> Place:
    """Return where to begin: the highest of the tops above a few draws of the prior.

    Those are taken under which some of the rows are likeliest. Where the posterior has
    several tops, as where labels can be exchanged, their heights decide, by draws that
    are made there.

    Raises:
        InferenceError: If under no draw of the prior the rows have a density.
    """
    drawn = prior_draws(likelihood.parted.prior, _STARTS, generator)
    middle = coordinates.values(torch.zeros_like(coordinates.centre))
    some = Likelihood(likelihood.parted, likelihood.data[:_START_ROWS])
    ranked: list[tuple[float, Place]] = []
    is_explained = torch.zeros(len(some.data), dtype=torch.bool)
    for values in (middle, *drawn):
        draws = drawing.draw(values, some.data, _START_DRAWS, generator=generator)
        terms = some.terms(values, draws).log_likelihood
        is_explained |= terms > -math.inf
        found = float(terms.sum())
        if found > -math.inf:
            ranked.append((found, coordinates.place(values)))
        if ranked and is_over():
            break
    if not ranked:
        what = "no parameters that the prior draws give the rows a density"
        numbers = (~is_explained).nonzero().flatten().tolist()
        rows = [f"{n + 1} (up to {float(some.data[n].abs().max()):g})" for n in numbers]
        got = f"rows {listed(rows)}" if rows else ""
        raise InferenceError.at("learning", what, "data that the model can draw", got)
    ranked.sort(key=lambda each: -each[0])
    more = Likelihood(likelihood.parted, likelihood.data[:_TOP_ROWS])
    tops: list[tuple[float, Place]] = []
    stretches = 1 if drawing.is_exact else _TOP_STRETCHES
    for _, top in ranked[:_TOPS]:
        for number in range(stretches + 1):
            part = _Stretch.at(
                top, more, coordinates, drawing, _START_DRAWS, generator=generator
            )
            if number < stretches:
                top, _ = part.top(is_over)
        tops.append((part.value, top))
        if is_over():
            break
    return max(tops, key=lambda each: each[0])[1]


def climb(
    likelihood: Likelihood,
    coordinates: UnitCoordinates,
    drawing: Drawing,
    place: Place,
    num_steps: int,
    *,
    generator: Generator,
    is_over: Callable[[], bool],
) -> Iterator[Place]:
    """Yield places on the way up by minibatches; none if rows are few.

    Args:
        likelihood: Of the rows.
        coordinates: Of the parameters.
        drawing: Of latents.
        place: Where it begins.
        num_steps: How many steps it takes.
        generator: Source of batches and draws.
        is_over: Whether it is to end before.
    """
    rows = len(likelihood.data)
    leaf = place.clone().requires_grad_()
    adam = torch.optim.Adam([leaf], lr=_RATES[0])
    for step in range(num_steps if rows > _MANY else 0):
        if is_over():
            return
        share = 0.5 + 0.5 * math.cos(math.pi * step / num_steps)
        adam.param_groups[0]["lr"] = _RATES[1] + share * (_RATES[0] - _RATES[1])
        some = torch.randperm(rows, generator=generator)[:_BATCH]
        data = likelihood.data[some]
        values = coordinates.values(leaf.detach())
        draws = drawing.draw(values, data, _CLIMB_DRAWS, generator=generator)
        part = Surface(Likelihood(likelihood.parted, data), coordinates, draws)
        _, prior = part.prior(leaf)
        slope = part.at(leaf.detach()).slope - prior
        leaf.grad = -(slope * rows / len(data) + prior)
        adam.step()
        yield leaf.detach().clone()


def ascend(
    likelihood: Likelihood,
    coordinates: UnitCoordinates,
    drawing: Drawing,
    place: Place,
    *,
    generator: Generator,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[Round]:
    """Yield rounds up to the top; the caller ends them before if it has to.

    Args:
        likelihood: Of the rows.
        coordinates: Of the parameters.
        drawing: Of latents.
        place: Where it begins.
        generator: Source of draws.
        is_over: Whether a round is to end with what it has reached.
    """
    num = _FIRST_DRAWS
    most = max(num, min(_MOST_DRAWS, _MOST_OF_ALL // len(likelihood.data)))
    still = _EXACTLY_STILL if drawing.is_exact else _STILL
    for number in range(1, _MOST_ROUNDS + 1):
        part = _Stretch.at(
            place, likelihood, coordinates, drawing, num, generator=generator
        )
        top, value = part.top(is_over)
        moved = math.sqrt(2.0 * max(value - part.value, 0.0))
        errors = torch.linalg.inv(part.scatter)
        spread = part.surface.noise(top) @ errors
        added = (errors @ spread).diagonal()
        noise = float((added / errors.diagonal()).max().sqrt())
        # Two sets of draws part by what the draws of both add.
        is_noise = moved < 2.0 * float(spread.trace()) ** 0.5
        # Noise moves each of many parameters: all of them as far as their root.
        far = max(_MOST_NOISE, _MOST_NOISE_OF_EACH * math.sqrt(len(place)))
        is_still = moved < still or (is_noise and moved < far)
        is_top = is_still and (noise < _QUIET or num >= most)
        yield Round(number, top, part.surface, part.scale, value, moved, noise, is_top)
        if is_top:
            return
        num = min(2 * num, most) if is_still or is_noise else num
        place = top


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """The surface on draws that were made at a place.

    Attributes:
        place: Where.
        surface: The surface.
        value: Its height there, in nats.
        scatter: Information there, by the scatter of scores.
        reach: How far from there draws serve, by coordinate.
    """

    place: Place
    surface: Surface
    value: float
    scatter: Square
    reach: Place

    @classmethod
    def at(
        cls,
        place: Place,
        likelihood: Likelihood,
        coordinates: UnitCoordinates,
        drawing: Drawing,
        num: int,
        *,
        generator: Generator,
    ) -> "_Stretch":
        values = coordinates.values(place).detach()
        draws = drawing.draw(values, likelihood.data, num, generator=generator)
        surface = Surface(likelihood, coordinates, draws)
        here = surface.at(place)
        scatter = surface.scatter(place)
        reach = (_REACH * scatter.diagonal().rsqrt()).clamp_max(_LONGEST)
        if drawing.is_exact:
            reach = torch.full_like(reach, math.inf)
        return cls(place, surface, here.value, scatter, reach)

    @property
    def scale(self) -> Place:
        """A standard error of each coordinate."""
        return self.scatter.diagonal().rsqrt()

    def top(self, is_over: Callable[[], bool]) -> tuple[Place, float]:
        """Return the highest place within reach, and how high it is.

        Args:
            is_over: Whether to end with the place that is reached.
        """
        scale = self.scale

        def ended(_: object) -> None:
            if is_over():
                raise StopIteration

        def depth(
            steps: "np.ndarray[tuple[int], np.dtype[np.float64]]",
        ) -> tuple[float, object]:
            there = self.surface.at(self.place + scale * torch.from_numpy(steps))
            if not math.isfinite(there.value):
                return 1e100, np.zeros_like(steps)
            slope = torch.where(torch.isfinite(there.slope), there.slope, 0.0)
            return -there.value, -(scale * slope).numpy()

        found = scipy.optimize.minimize(
            depth,
            np.zeros(len(self.place)),
            jac=True,
            method="L-BFGS-B",
            callback=ended,
            bounds=[(-far, far) for far in (self.reach / scale).tolist()],
            options={"maxcor": 20, "ftol": 1e-14, "gtol": 1e-6, "maxiter": 500},
        )
        return self.place + scale * torch.from_numpy(found.x), -float(found.fun)

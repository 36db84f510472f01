r"""This file climbs a log density from many places at once.

Each row climbs for itself by L-BFGS, but all are judged in one batch: a round proposes
x + t d for every row that is still on its way, d from the row's own last gradients by
the two-loop recursion, and takes it where the density rises as its slope promised
(Armijo); the other rows try a shorter t in the next round. A row whose slope has hardly
fallen by then goes on along d, ever longer.

References:
    Nocedal and Wright (2006), Numerical Optimization, 2nd edition, algorithm 7.4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Climbed", "climbed"]

_MEMORY = 20
_MOST_ROUNDS = 400
_LEAST_GAIN = 2e-9
"""A step that gains less, relative to the height, is the last one."""
_LEAST_SLOPE = 1e-5
_PROMISED = 1e-4
_FLATTER = 0.1
"""By so much of itself a slope is to fall on a step, or the next one goes on longer."""
_LONGER = 4.0
_MOST_SHORTENED = 20


@dataclass(frozen=True, slots=True, eq=False)
class Climbed:
    """Where rows have got to.

    Attributes:
        places: Their coordinates.
        heights: Log density there; -inf or nan for a row that began without density.
        has_ended: Whether a row found no higher place; not where time was up.
    """

    places: Float[Tensor, "row free"]
    heights: Float[Tensor, " row"]
    has_ended: Bool[Tensor, " row"]


def climbed(
    log_density: Callable[[Tensor, Tensor], Tensor],
    starts: Float[Tensor, "row free"],
    *,
    is_over: Callable[[], bool] = lambda: False,
    most_rounds: int = _MOST_ROUNDS,
) -> Climbed:
    """Return where rows climb to.

    Args:
        log_density: Of places and the numbers of their rows; differentiable.
        starts: Where the rows begin.
        is_over: Whether to end with what is reached; asked in each round.
        most_rounds: How many rounds there are at most.

    Example:
        >>> import torch
        >>> starts = torch.tensor([[3.0], [-3.0]]).double()
        >>> found = climbed(lambda x, _: -(x.square() - 1).square().sum(1), starts)
        >>> found.places.round(decimals=3).squeeze(1).tolist()
        [1.0, -1.0]
    """
    rows = torch.arange(len(starts))
    places, (heights, slopes) = starts.clone(), _judged(log_density, starts, rows)
    has_ended = torch.zeros(len(starts), dtype=torch.bool)
    on_way = torch.isfinite(heights).nonzero().squeeze(1)
    way = _Way.begun(places[on_way], heights[on_way], slopes[on_way])
    for _ in range(most_rounds):
        if not len(on_way) or is_over():
            break
        way = way.moved(*_judged(log_density, way.proposed, on_way))
        places[on_way], heights[on_way] = way.places, way.heights
        has_ended[on_way] = way.has_ended
        on_way, way = on_way[~way.has_ended], way.rows(~way.has_ended)
    else:
        has_ended[on_way] = True
    return Climbed(places, heights, has_ended)


def _judged(
    log_density: Callable[[Tensor, Tensor], Tensor], places: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log density and gradient; what is no number of a gradient counts as 0."""
    leaf = places.detach().requires_grad_()
    values = log_density(leaf, rows)
    if not values.requires_grad:  # the same at every place
        return values, torch.zeros_like(places)
    (slopes,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), torch.where(slopes.isfinite(), slopes, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Rows on their way up.

    Attributes:
        places: Where they are.
        heights: Log density there.
        slopes: Its gradient.
        directions: Where they go next.
        lengths: How far, in directions.
        shortened: How often that was made shorter since the last step.
        steps: The last steps on which the slope fell, 0 where there are none yet.
        falls: By how much the gradient fell on each.
        has_ended: Whether a row has nowhere to go.
    """

    places: Float[Tensor, "row free"]
    heights: Float[Tensor, " row"]
    slopes: Float[Tensor, "row free"]
    directions: Float[Tensor, "row free"]
    lengths: Float[Tensor, "row 1"]
    shortened: Float[Tensor, " row"]
    steps: Float[Tensor, "memory row free"]
    falls: Float[Tensor, "memory row free"]
    has_ended: Bool[Tensor, " row"]

    @classmethod
    def begun(cls, places: Tensor, heights: Tensor, slopes: Tensor) -> "_Way":
        """Return rows that know their gradients only."""
        none = places.new_zeros(_MEMORY, *places.shape)
        return cls(
            places,
            heights,
            slopes,
            slopes,
            1.0 / slopes.abs().sum(1, keepdim=True).clamp_min(1.0),
            torch.zeros_like(heights),
            none,
            none,
            slopes.abs().amax(1) < _LEAST_SLOPE,
        )

    @property
    def proposed(self) -> Float[Tensor, "row free"]:
        """Where the rows want to go."""
        return self.places + self.lengths * self.directions

    def rows(self, kept: Bool[Tensor, " row"]) -> "_Way":
        """Return some of the rows."""
        return _Way(
            self.places[kept],
            self.heights[kept],
            self.slopes[kept],
            self.directions[kept],
            self.lengths[kept],
            self.shortened[kept],
            self.steps[:, kept],
            self.falls[:, kept],
            self.has_ended[kept],
        )

    def moved(self, heights: Tensor, slopes: Tensor) -> "_Way":
        """Return the rows after they were told what is where they want to go."""
        step = self.lengths * self.directions
        promised = (self.slopes * step).sum(1)
        gain = heights - self.heights
        is_up = torch.isfinite(heights) & (gain >= _PROMISED * promised)
        up = is_up.unsqueeze(1)
        fall = self.slopes - slopes
        curves = (step * fall).sum(1)
        is_bent = is_up & (curves > _FLATTER * promised)
        bent = is_bent.unsqueeze(1)
        steps = torch.where(bent, torch.cat([self.steps[1:], step[None]]), self.steps)
        falls = torch.where(bent, torch.cat([self.falls[1:], fall[None]]), self.falls)
        here = torch.where(up, slopes, self.slopes)
        # A parabola through what is known says how much shorter; in bounds.
        share = (0.5 * promised / (promised - gain)).nan_to_num(0.1).clamp(0.1, 0.5)
        longer = torch.where(bent, 1.0, _LONGER * self.lengths)
        lengths = torch.where(up, longer, share.unsqueeze(1) * self.lengths)
        shortened = torch.where(is_up, 0.0, self.shortened + 1.0)
        has_ended = shortened > _MOST_SHORTENED
        has_ended |= is_up & (gain <= _LEAST_GAIN * heights.abs().clamp_min(1.0))
        has_ended |= is_up & (slopes.abs().amax(1) < _LEAST_SLOPE)
        return _Way(
            torch.where(up, self.proposed, self.places),
            torch.where(is_up, heights, self.heights),
            here,
            torch.where(bent, _direction(here, steps, falls), self.directions),
            lengths,
            shortened,
            steps,
            falls,
            has_ended,
        )


def _direction(slopes: Tensor, steps: Tensor, falls: Tensor) -> Tensor:
    """Return H⁻¹ times the gradients, H from the last steps; upwards in any case."""
    curves = (steps * falls).sum(2)
    known = curves > 0.0
    inverse = torch.where(known, 1.0 / curves, 0.0)
    wanted, parts = slopes, []
    for back in reversed(range(_MEMORY)):
        part = inverse[back] * (steps[back] * wanted).sum(1)
        wanted = wanted - part.unsqueeze(1) * falls[back]
        parts.append(part)
    last = torch.where(known[-1], curves[-1] / falls[-1].square().sum(1), 1.0)
    wanted = last.unsqueeze(1) * wanted
    for back, part in enumerate(reversed(parts)):
        turn = part - inverse[back] * (falls[back] * wanted).sum(1)
        wanted = wanted + turn.unsqueeze(1) * steps[back]
    is_upward = (wanted * slopes).sum(1) > 0.0
    return torch.where(is_upward.unsqueeze(1), wanted, slopes)

r"""This file compares data with new data that the posterior predicts.

Latents z are drawn from the weighted particles, with replacement, and new data from the
model given them:

    z ~ Σ W_i δ(z_i),      x' ~ p(x' | z),

so that x' follows the posterior predictive p(x' | x). A model that explains the data
draws x' around them. The level of an observed number is the share of new numbers below
it (half of those equal to it): close to 0 or 1, the model misses it.

References:
    Gelman, Meng, Stern (1996), Posterior predictive assessment of model fitness via
    realized discrepancies, Statistica Sinica 6.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.particles import Particles
from ..inference.plain import plain
from ..model.discrete_values import kind_of, text_of
from ..model.model import Model

__all__ = ["PosteriorPredictive", "PredictedNumber", "posterior_predictive"]

_NUM_BINS = 40
_MOST_VALUES = 40


@dataclass(frozen=True, slots=True)
class PredictedNumber:
    """What the posterior predicts of one observed number.

    Attributes:
        name: Label, with the position in a vector.
        observed: The number in the data.
        mean: Of new numbers.
        sd: Of new numbers.
        quantile_05: The 5 % quantile of new numbers.
        quantile_95: The 95 % quantile.
        level: Share of new numbers below the observed one. New numbers without
            meaning, which a forgiving model draws, count in none of these figures.
        edges: Ends of the bins that the new numbers are counted in.
        counts: How many fall into each bin.
        value: The observed number as a program writes it, of discrete data.
        probabilities: Share of each new value, by its text, of discrete data; None of
            others, and of too many values.
    """

    name: str
    observed: float
    mean: float
    sd: float
    quantile_05: float
    quantile_95: float
    level: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    value: str | None = None
    probabilities: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class PosteriorPredictive:
    """What the posterior predicts of new data.

    Attributes:
        numbers: One entry per observed number.
        num_draws: How many data sets were drawn.
    """

    numbers: tuple[PredictedNumber, ...]
    num_draws: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not known."""
        found: dict[str, Any] = plain(asdict(self))
        return found


@torch.no_grad()
def posterior_predictive(
    model: Model,
    particles: Particles,
    observed: Float[Tensor, " observed"],
    num_draws: int,
    *,
    generator: torch.Generator,
) -> PosteriorPredictive:
    """Return what particles of the posterior predict of new data.

    Args:
        model: What the particles are of.
        particles: Weighted values of the latents given the data.
        observed: The data.
        num_draws: Number of new data sets.
        generator: Source of randomness.

    Raises:
        InferenceError: If every weight is 0.
    """
    draws = particles.resampled(num_draws, generator=generator).particles
    latents = draws.latents
    given = {v.name: latents[:, v.start : v.stop] for v in model.layout.latents}
    if given:
        new = model.sample_given(given, generator=generator).observed
    else:
        new = model.sample(num_draws, generator=generator).observed
    values, columns = observed.tolist(), new.T.contiguous()
    found = []
    for variable in model.layout.observed:
        kind, categories = kind_of(model, variable.name)
        for place, label in enumerate(variable.column_names, variable.start):
            number = _predicted(label, values[place], columns[place], kind)
            if kind != "real":
                number = _discrete(number, columns[place], kind, categories)
            found.append(number)
    return PosteriorPredictive(tuple(found), num_draws)


def _discrete(
    number: PredictedNumber,
    column: Float[Tensor, " draw"],
    kind: str,
    categories: Sequence[Any],
) -> PredictedNumber:
    """Return a number with the share of each value; categories have no moments.

    The observed value and whole numbers in between stand there too, with share 0.
    """
    observed, drawn = number.observed, column[column.isfinite()]
    number = replace(number, value=text_of(observed, kind, categories))
    if categories:
        none = math.nan
        number = replace(
            number, mean=none, sd=none, quantile_05=none, quantile_95=none, level=none
        )
    values, counts = torch.unique(drawn, return_counts=True)
    every = dict(zip(values.tolist(), counts.tolist(), strict=True))
    least, most = min([*every, observed]), max([*every, observed])
    if not every or most - least >= _MOST_VALUES:
        return number
    for whole in range(math.ceil(least), math.floor(most) + 1):
        every.setdefault(float(whole), 0)
    shares = {
        text_of(value, kind, categories): every[value] / len(drawn)
        for value in sorted(every)
    }
    return replace(number, probabilities=shares)


def _predicted(
    name: str, value: float, column: Float[Tensor, " draw"], kind: str
) -> PredictedNumber:
    column = column[column.isfinite()]
    if not len(column):
        none = math.nan
        return PredictedNumber(name, value, none, none, none, none, none, (0, 1), (0,))
    levels = torch.tensor([0.05, 0.95], dtype=column.dtype)
    low, high = torch.quantile(column, levels).tolist()
    below = (column < value).double() + 0.5 * (column == value).double()
    least, most, bins = float(column.min()), float(column.max()), _NUM_BINS
    if kind != "real" and most - least < _NUM_BINS:
        least, most, bins = least - 0.5, most + 0.5, int(most - least) + 1
    edges = torch.linspace(least, most, bins + 1, dtype=column.dtype)
    counts = torch.bincount(
        torch.bucketize(column, edges[1:-1], right=True), minlength=bins
    )
    return PredictedNumber(
        name,
        value,
        float(column.mean()),
        float(column.std()) if len(column) > 1 else math.nan,
        low,
        high,
        float(below.mean()),
        tuple(edges.tolist()),
        tuple(counts.tolist()),
    )

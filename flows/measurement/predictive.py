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
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.particles import Particles
from ..model.model import Model

__all__ = ["PosteriorPredictive", "PredictedNumber", "posterior_predictive"]

_NUM_BINS = 40


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
        """Return plain values."""
        return asdict(self)


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
    names = [n for variable in model.layout.observed for n in variable.column_names]
    columns = zip(names, observed.tolist(), new.T.contiguous(), strict=True)
    return PosteriorPredictive(
        tuple(_predicted(name, value, column) for name, value, column in columns),
        num_draws,
    )


def _predicted(
    name: str, value: float, column: Float[Tensor, " draw"]
) -> PredictedNumber:
    column = column[column.isfinite()]
    if not len(column):
        none = math.nan
        return PredictedNumber(name, value, none, none, none, none, none, (0, 1), (0,))
    levels = torch.tensor([0.05, 0.95], dtype=column.dtype)
    low, high = torch.quantile(column, levels).tolist()
    below = (column < value).double() + 0.5 * (column == value).double()
    edges = torch.linspace(
        float(column.min()), float(column.max()), _NUM_BINS + 1, dtype=column.dtype
    )
    counts = torch.bincount(
        torch.bucketize(column, edges[1:-1], right=True), minlength=_NUM_BINS
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

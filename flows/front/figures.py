"""This file puts weighted values into figures: what is said of one number.

A figure is of a latent's column or of a leaf of the return value. Discrete values have
probabilities beside the moments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.averages import Averages
from ..model.discrete_values import text_of

__all__ = ["Figures", "figures_of"]

_MOST_VALUES = 200


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one number.

    Attributes:
        mean: Posterior mean; nan for values that are no numbers.
        mc_error: Monte Carlo standard error of the mean; 0 where it is exact, nan where
            it is not known.
        sd: Posterior standard deviation.
        q05: The 5 % quantile.
        median: The median.
        q95: The 95 % quantile.
        probabilities: Probability of each value of a discrete number, by its text.
    """

    mean: float
    mc_error: float
    sd: float
    q05: float
    median: float
    q95: float
    probabilities: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not finite."""
        plain: dict[str, Any] = {
            name: value if math.isfinite(value) else None
            for name in ("mean", "mc_error", "sd", "q05", "median", "q95")
            for value in (getattr(self, name),)
        }
        if self.probabilities is not None:
            plain["probabilities"] = self.probabilities
        return plain


def figures_of(
    values: Float[Tensor, " row"],
    log_weights: Float[Tensor, " row"],
    *,
    mc_error: float | None = None,
    kind: str = "real",
    categories: Sequence[Any] = (),
) -> Figures:
    """Return the figures of weighted values.

    Args:
        values: One number per row; a position among `categories` where there are some.
        log_weights: Unnormalised, in nats.
        mc_error: Of the mean, where it is known otherwise than from the weights.
        kind: boolean, integer, category or real.
        categories: What positions stand for.

    Example:
        >>> import torch
        >>> figures_of(torch.tensor([1.0, 3.0]).double(), torch.zeros(2).double()).mean
        2.0
    """
    probabilities = None
    if kind != "real":
        probabilities = _probabilities(values, log_weights, kind, categories)
    if categories:
        # One that never happens, of a branch that is not taken, may be no number.
        happens = log_weights > -math.inf
        numbers = [
            float(c) if isinstance(c, int | float) else math.nan for c in categories
        ]
        values = values.new_tensor(numbers)[values.nan_to_num().long()]
        values = torch.where(happens, values, 0.0)
        if bool(torch.isnan(values).any()):
            blank = math.nan
            return Figures(blank, blank, blank, blank, blank, blank, probabilities)
    part = Averages(values.unsqueeze(1), log_weights)
    if not bool((log_weights > -math.inf).any()):
        blank = math.nan
        return Figures(blank, blank, blank, blank, blank, blank, probabilities)
    low, middle, high = part.quantiles([0.05, 0.5, 0.95])[:, 0].tolist()
    error = float(part.mean_standard_error()[0]) if mc_error is None else mc_error
    return Figures(
        float(part.mean()[0]),
        error,
        float(part.sd()[0]),
        low,
        middle,
        high,
        probabilities,
    )


def _probabilities(
    values: Tensor, log_weights: Tensor, kind: str, categories: Sequence[Any]
) -> dict[str, float] | None:
    alive = log_weights > -math.inf
    values, weights = values[alive], log_weights[alive].softmax(0)
    is_there = ~torch.isnan(values)
    undefined = float(weights[~is_there].sum())
    values, weights = values[is_there], weights[is_there]
    found, places = torch.unique(values, return_inverse=True)
    if len(found) > _MOST_VALUES:
        return None
    masses = torch.zeros(len(found), dtype=weights.dtype).index_add(0, places, weights)
    chances: dict[str, float] = {}
    for value, mass in zip(found.tolist(), masses.tolist(), strict=True):
        text = text_of(value, kind, categories)
        chances[text] = chances.get(text, 0.0) + mass
    return {**chances, "undefined": undefined} if undefined else chances

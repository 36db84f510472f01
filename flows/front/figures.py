"""This file puts weighted values into figures: what is said of one number.

A figure is of a latent's column or of a leaf of the return value. Discrete values have
probabilities beside the moments.
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.averages import Averages
from ..model.discrete_values import text_of
from ..storage.json_values import finite_or_none

__all__ = ["Figures", "exact_figures", "figures_of"]

_MOST_VALUES = 200
_LEVELS = (0.05, 0.5, 0.95)


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

    @classmethod
    def of_no_number(cls, probabilities: dict[str, float] | None) -> "Figures":
        """Return the figures of what has no moments."""
        return cls(*(math.nan,) * 6, probabilities)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not finite."""
        plain: dict[str, Any] = {
            name: finite_or_none(getattr(self, name))
            for name in ("mean", "mc_error", "sd", "q05", "median", "q95")
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
    if not bool((log_weights > -math.inf).any()):
        return Figures.of_no_number(None if kind == "real" else {})
    if kind != "real":
        return _discrete_figures(values, log_weights, mc_error, kind, categories)
    part = Averages(values.unsqueeze(1), log_weights)
    low, middle, high = part.quantiles(_LEVELS)[:, 0].tolist()
    error = float(part.mean_standard_error()[0]) if mc_error is None else mc_error
    return Figures(
        float(part.mean()[0]),
        error,
        float(part.sd()[0]),
        low,
        middle,
        high,
    )


def exact_figures(
    values: Sequence[float],
    chances: Sequence[float],
    *,
    kind: str,
    categories: Sequence[Any] = (),
) -> Figures:
    """Return the figures of a number whose few values have known probabilities.

    As `figures_of` with a Monte Carlo error of 0, without tensors: a program may have
    thousands of such numbers.

    Args:
        values: Every value it can have; nan where it is not defined.
        chances: Their probabilities, which add up to 1.
        kind: boolean, integer, category or real.
        categories: What positions stand for.

    Example:
        >>> exact_figures([0.0, 1.0], [0.25, 0.75], kind="boolean").probabilities
        {'false': 0.25, 'true': 0.75}
    """
    masses: dict[float, float] = {}
    for value, chance in zip(values, chances, strict=True):
        if chance > 0.0 and not math.isnan(value):
            masses[value] = masses.get(value, 0.0) + chance
    masses = dict(sorted(masses.items()))
    undefined = sum(c for v, c in zip(values, chances, strict=True) if math.isnan(v))
    probabilities = (
        None if kind == "real" else _shown(masses, undefined, kind, categories)
    )
    pairs = list(masses.items())
    if undefined > 0.0:
        pairs.append((math.nan, undefined))
    if categories:
        pairs = sorted((_number(v, categories), chance) for v, chance in pairs)
        if any(math.isnan(value) for value, _ in pairs):
            return Figures.of_no_number(probabilities)
    mean = sum(value * chance for value, chance in pairs)
    variance = sum((value - mean) ** 2 * chance for value, chance in pairs)
    reached = list(itertools.accumulate(chance for _, chance in pairs))
    low, middle, high = (
        pairs[min(bisect_left(reached, level), len(pairs) - 1)][0] for level in _LEVELS
    )
    return Figures(mean, 0.0, math.sqrt(variance), low, middle, high, probabilities)


def _number(position: float, categories: Sequence[Any]) -> float:
    """Return the number that a position stands for; nan if that is none."""
    if math.isnan(position):
        return position
    value = categories[int(position)]
    return float(value) if isinstance(value, int | float) else math.nan


def _discrete_figures(
    values: Tensor,
    log_weights: Tensor,
    mc_error: float | None,
    kind: str,
    categories: Sequence[Any],
) -> Figures:
    """Return the figures of weighted values, of which there are few different ones."""
    alive = log_weights > -math.inf
    values, weights = values[alive], log_weights[alive].softmax(0)
    is_there = ~torch.isnan(values)
    undefined = float(weights[~is_there].sum())
    known, places = torch.unique(values[is_there], return_inverse=True)
    weights = weights[is_there]
    powers = torch.stack([weights, weights.square()])
    masses, squares = powers.new_zeros(2, len(known)).index_add(1, places, powers)
    found = exact_figures(
        [*known.tolist(), math.nan],
        [*masses.tolist(), undefined],
        kind=kind,
        categories=categories,
    )
    if mc_error is None:  # √(Σ W² (z - m)²), as `Averages.mean_standard_error`
        numbers = [_number(v, categories) if categories else v for v in known.tolist()]
        deviations = known.new_tensor(numbers) - found.mean
        known_error = float((squares * deviations.square()).sum().sqrt())
        mc_error = math.nan if math.isnan(found.mean) else known_error
    # What is no number has no error either: nan.
    return replace(found, mc_error=found.mc_error + mc_error)


def _shown(
    masses: Mapping[float, float],
    undefined: float,
    kind: str,
    categories: Sequence[Any],
) -> dict[str, float] | None:
    """Return the probability of each value by its text; None of too many values."""
    if len(masses) > _MOST_VALUES:
        return None
    chances: dict[str, float] = {}
    for value, mass in masses.items():
        text = text_of(value, kind, categories)
        chances[text] = chances.get(text, 0.0) + mass
    return {**chances, "undefined": undefined} if undefined else chances

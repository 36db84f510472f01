"""This file makes estimates of terms: their mean, with its error.

Terms that are not finite are counted and left out of the mean, which says so.
"""

import math
from dataclasses import dataclass

import torch

from ..flow.shapes import Row

__all__ = [
    "MOST_NATS",
    "Estimate",
    "SymmetricEstimate",
    "estimate",
    "estimate_symmetric",
]

MOST_NATS = 100.0
"""By so much a row far out counts where it must not decide alone."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of terms.

    Args:
        mean: mean of the finite terms, in nats.
        standard_error: its standard error.
        num_terms: number of terms.
        num_non_finite: how many were not finite and are not in the mean.
        median_of_means: median of the means of batches of 100 terms.
        trimmed_mean: mean without the 0.5 % largest terms.
        held_mean: mean with terms held at `MOST_NATS` above the median, as those are
            that are not finite: a few rows far out do not decide it, however far. Runs
            kept before do not have it.
        num_held: how many are.
    """

    mean: float
    standard_error: float
    num_terms: int
    num_non_finite: int
    median_of_means: float
    trimmed_mean: float
    held_mean: float = math.nan
    num_held: int = 0

    def sentence(self) -> str:
        """The estimate in words."""
        text = f"{self.mean:.4g} +- {self.standard_error:.2g} nats"
        if self.num_non_finite:
            text += (
                f" without {self.num_non_finite} of {self.num_terms} terms that were "
                "not finite"
            )
        return text


@dataclass(frozen=True, slots=True)
class SymmetricEstimate:
    """J with its two directions.

    Args:
        symmetric: J = (F + R) / 2.
        forward: F, up to the model's entropy constant.
        reverse: R, up to the same constant with the other sign.
    """

    symmetric: Estimate
    forward: Estimate
    reverse: Estimate


def estimate(terms: Row) -> Estimate:
    """Mean of terms with its standard error; non-finite terms are counted."""
    terms = terms.detach().double()
    finite = terms[torch.isfinite(terms)]
    count = finite.numel()
    if count < 2:
        nan = float("nan")
        lost = terms.numel() - count
        return Estimate(nan, nan, terms.numel(), lost, nan, nan)
    chunks = [part.mean() for part in torch.split(finite, 100)]
    most = finite.median() + MOST_NATS
    held = torch.where(terms.isfinite(), terms, math.inf)
    kept = finite.sort().values[: count - count // 200]
    return Estimate(
        mean=float(finite.mean()),
        standard_error=float(finite.std() / count**0.5),
        num_terms=terms.numel(),
        num_non_finite=terms.numel() - count,
        median_of_means=float(torch.stack(chunks).median()),
        trimmed_mean=float(kept.mean()),
        held_mean=float(held.clamp(max=most).mean()),
        num_held=int((held > most).sum()),
    )


def estimate_symmetric(forward: Row, reverse: Row) -> SymmetricEstimate:
    """J, F and R of terms paired row by row."""
    return SymmetricEstimate(
        symmetric=estimate(0.5 * (forward + reverse)),
        forward=estimate(forward),
        reverse=estimate(reverse),
    )

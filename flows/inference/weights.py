r"""This file adds up weights: evidence, its error and the effective sample size.

Weights stay unnormalised and in log space, in float64, so that sets drawn apart merge
exactly: nothing is rescaled. For N weights,

    log evidence = log Σw - log N,      ess = (Σw)² / Σw²,
    se² of the log evidence = (N / ess - 1) / (N - 1),

the last by the delta method: Var(log m) ≈ Var(m) / m² for m, the mean of N independent
weights with sample variance s², and s² / (N m²) is the right-hand side. The log of an
unbiased estimate is biased, by about -se²/2.

A log weight of -inf is legal (a particle outside the support). Nan and +inf are errors.
If every log weight is -inf the evidence is 0 and the ess is 0.

References:
    Owen (2013), Monte Carlo theory, methods and examples, sections 9.1-9.3,
    https://artowen.su.domains/mc/
    Kong (1992), A note on importance sampling using standardized weights.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError, InferenceError

__all__ = ["WeightTotals", "check_log_weights", "ess"]


def check_log_weights(log_weights: Float[Tensor, " particle"], where: str) -> None:
    """Raise unless every log weight is a float64 below +inf.

    Args:
        log_weights: Unnormalised log weights in nats.
        where: What they belong to, the start of the error's sentence.

    Raises:
        InferenceError: If a log weight is nan or +inf, with the counts.
        ArgumentError: If the dtype is not float64.
    """
    if log_weights.dtype != torch.float64:
        raise ArgumentError.at(where, "log weights", "float64", str(log_weights.dtype))
    num_nan = int(log_weights.isnan().sum())
    num_infinite = int((log_weights == math.inf).sum())
    if num_nan or num_infinite:
        raise InferenceError.at(
            where,
            "log weights that are no numbers",
            "finite values or -inf",
            f"{num_nan} nan and {num_infinite} +inf"
            f" among {log_weights.shape[0]} particles",
        )


@dataclass(frozen=True, slots=True)
class WeightTotals:
    """What a set of weights adds up to; totals of disjoint sets merge exactly.

    Attributes:
        num_particles: Number of weights, N.
        num_zero: Number of weights that are exactly 0.
        log_sum: log Σw.
        log_sum_squares: log Σw².
    """

    num_particles: int = 0
    num_zero: int = 0
    log_sum: float = -math.inf
    log_sum_squares: float = -math.inf

    @classmethod
    def from_log_weights(
        cls, log_weights: Float[Tensor, " particle"]
    ) -> "WeightTotals":
        """Return the totals of `log_weights`.

        Raises:
            InferenceError: If a log weight is nan or +inf.
        """
        check_log_weights(log_weights, "weights")
        if log_weights.shape[0] == 0:
            return cls()
        return cls(
            log_weights.shape[0],
            int((log_weights == -math.inf).sum()),
            float(log_weights.logsumexp(0)),
            float((2.0 * log_weights).logsumexp(0)),
        )

    def merge(self, other: "WeightTotals") -> "WeightTotals":
        """Return the totals of both sets together."""
        return WeightTotals(
            self.num_particles + other.num_particles,
            self.num_zero + other.num_zero,
            float(np.logaddexp(self.log_sum, other.log_sum)),
            float(np.logaddexp(self.log_sum_squares, other.log_sum_squares)),
        )

    @property
    def log_evidence(self) -> float:
        """Return log of the mean weight, in nats; -inf if every weight is 0."""
        if self.log_sum == -math.inf:
            return -math.inf
        return self.log_sum - math.log(self.num_particles)

    @property
    def log_evidence_standard_error(self) -> float:
        """Return the delta-method standard error of `log_evidence`, in nats.

        It is nan where it is not defined: fewer than two particles or no weight.
        """
        if self.num_particles < 2 or self.log_sum == -math.inf:
            return math.nan
        excess = self.num_particles / self.ess - 1.0
        return math.sqrt(excess / (self.num_particles - 1))

    @property
    def ess(self) -> float:
        """Return (Σw)² / Σw², between 1 and N; 0 if every weight is 0."""
        if self.log_sum == -math.inf:
            return 0.0
        ess = math.exp(2.0 * self.log_sum - self.log_sum_squares)
        # Only rounding can leave the interval that Cauchy and Schwarz prove.
        return min(max(ess, 1.0), float(self.num_particles))

    @property
    def ess_fraction(self) -> float:
        """Return ess / N; 0 if there are no particles."""
        return self.ess / self.num_particles if self.num_particles else 0.0


def ess(log_weights: Float[Tensor, "*batch weight"]) -> Float[Tensor, "*batch"]:
    """Return (Σw)² / Σw² of every row of weights; 0 where every weight is 0.

    Args:
        log_weights: In nats, float64; not checked.
    """
    found = (2.0 * log_weights.logsumexp(-1) - (2.0 * log_weights).logsumexp(-1)).exp()
    return torch.where((log_weights > -math.inf).any(-1), found, 0.0)

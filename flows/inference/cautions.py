"""This file says in words why estimates are not to be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .weights import WeightTotals

__all__ = [
    "K_HAT_LIMIT",
    "LOG_EVIDENCE_ERROR_LIMIT",
    "Caution",
    "cautions",
    "evidence_cautions",
    "prior_predictive_cautions",
]


@dataclass(frozen=True, slots=True)
class Caution:
    """A reason not to trust an estimate, in words.

    Attributes:
        what: What was found, with its number.
        meaning: What that says about the estimates.
        remedy: What to do about it.
    """

    what: str
    meaning: str
    remedy: str

    def __str__(self) -> str:
        """Return the three parts as one line."""
        return f"{self.what}: {self.meaning}. {self.remedy}."


K_HAT_LIMIT = 0.7
"""Above it no N that is affordable suffices; Vehtari et al. (2024), section 3.2.4."""
ESS_FRACTION_LIMIT = 0.01
LOG_EVIDENCE_ERROR_LIMIT = 0.25
"""In nats: the evidence is then known to a factor of about 1.28 only."""
PREDICTIVE_DISTANCE_LIMIT = 5.0
"""Prior draws so far from an observation, in their own spread, explain nothing."""


def cautions(totals: WeightTotals, k_hat: float) -> tuple[Caution, ...]:
    """Return the reasons not to trust estimates from such weights, worst first."""
    if totals.num_particles == totals.num_zero:
        return (
            Caution(
                f"none of {totals.num_particles} particles has a positive weight",
                "the estimated evidence is 0, the effective sample size is 0 and no"
                " posterior average exists",
                "Check that the model can produce the observation; then draw more"
                " particles (--num-particles), use a broader proposal (--proposal prior"
                " or mixture) or annealed SMC (`daphne-flows smc`)",
            ),
        )
    found: list[Caution] = []
    if k_hat > K_HAT_LIMIT:
        found.append(
            Caution(
                f"Pareto k-hat is {k_hat:.2f}, above {K_HAT_LIMIT}",
                "the weights have so heavy a tail that their average is ruled by rare"
                " particles; the means, the evidence and their standard errors may all"
                " be wrong",
                "Use annealed SMC (`daphne-flows smc`), bend the flow to these data"
                " (`daphne-flows refine`), mix the prior into the proposal"
                " (--proposal mixture), or train the flow longer; more particles alone"
                " help slowly",
            )
        )
    if totals.ess_fraction < ESS_FRACTION_LIMIT:
        found.append(
            Caution(
                f"the effective sample size is {totals.ess:.3g} of"
                f" {totals.num_particles} particles ({totals.ess_fraction:.2%})",
                "almost all particles are wasted, the proposal misses the posterior",
                "Use annealed SMC (`daphne-flows smc`), bend the flow to these data"
                " (`daphne-flows refine`), or train the flow longer",
            )
        )
    return (*found, *evidence_cautions(totals.log_evidence_standard_error))


def evidence_cautions(error: float) -> tuple[Caution, ...]:
    """Return a caution if the log evidence is not known well enough, else none.

    Args:
        error: Its standard error, in nats.
    """
    if error <= LOG_EVIDENCE_ERROR_LIMIT:
        return ()
    return (
        Caution(
            f"the standard error of the log evidence is {error:.2f} nats"
            if math.isfinite(error)
            else "the standard error of the log evidence is undefined",
            "the evidence is not known within a factor of"
            f" {math.exp(LOG_EVIDENCE_ERROR_LIMIT):.2f}, and its log is biased"
            " downwards",
            "Draw more particles (--num-particles); improve the proposal first if k-hat"
            " is high as well",
        ),
    )


def prior_predictive_cautions(
    observed: Float[Tensor, " observed"],
    predictive: Float[Tensor, "draw observed"],
    labels: Sequence[str],
) -> tuple[Caution, ...]:
    """Return one caution per observed value far outside what the prior predicts.

    Far means beyond every predictive draw, and further from their median than
    `PREDICTIVE_DISTANCE_LIMIT` times their spread (half the distance between the
    16 % and the 84 % quantile: the standard deviation if they are normal).

    Args:
        observed: The observed values.
        predictive: Data simulated from the model.
        labels: One label per observed value.
    """
    ordered = predictive.sort(0).values
    last = ordered.shape[0] - 1
    low, median, high = (ordered[round(p * last)] for p in (0.16, 0.5, 0.84))
    distance = (observed - median).abs() / ((high - low) / 2.0)
    is_beyond = (observed < ordered[0]) | (observed > ordered[last])
    return tuple(
        Caution(
            f"{label} = {float(observed[i]):g} lies {float(distance[i].round()):g}"
            " prior predictive standard deviations from what the model draws",
            "a proposal trained on the model's own draws has never seen such data, and"
            " the model hardly explains them",
            "Check the observation and its unit, or widen the model; if both are"
            " right, annealed SMC (`daphne-flows smc`) answers",
        )
        for i, label in enumerate(labels)
        if bool(is_beyond[i]) and float(distance[i]) > PREDICTIVE_DISTANCE_LIMIT
    )

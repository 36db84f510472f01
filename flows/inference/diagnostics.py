r"""This file judges weights: how far they can be trusted, in numbers and in words.

Pareto k-hat. Above a high cutoff u the excess of a weight follows, in the limit, a
generalised Pareto law with shape k: moments of order 1/k and higher do not exist. The
shape is fitted to the M = min(N/5, 3√N) largest weights. k < 1/2: the variance of the
estimates exists. k > 0.7: the error of no practical N can be judged. The fit is the
profile posterior of Zhang and Stephens: with θ = -k/σ, exceedances x_1 ≤ ... ≤ x_M,

    k(θ) = mean_i log(1 - θ x_i),      ℓ(θ) = M [log(-θ / k(θ)) - k(θ) - 1],

θ is averaged over a grid, θ_j = 1/x_M + (1 - √(m / (j - ½))) / (3 x_{⌊M/4 + ½⌋}),
with weights ∝ exp ℓ(θ_j), and k(θ) is shrunk to ½ as by 10 more exceedances.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling,
    JMLR 25(72), https://jmlr.org/papers/v25/19-556.html
    Zhang and Stephens (2009), A new and efficient estimation method for the generalized
    Pareto distribution, Technometrics 51(3).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .particles import Particles
from .weights import WeightTotals, check_log_weights

__all__ = [
    "Caution",
    "LatentSummary",
    "LogEvidence",
    "Summary",
    "cautions",
    "ess",
    "ess_fraction",
    "evidence_cautions",
    "log_evidence",
    "pareto_k_hat",
    "prior_predictive_cautions",
    "summarize",
]

# Vehtari et al. (2024), section 3.2.4: above this no N that is affordable suffices.
K_HAT_LIMIT = 0.7
ESS_FRACTION_LIMIT = 0.01
# In nats: the evidence is then known to a factor of about 1.28 only.
LOG_EVIDENCE_ERROR_LIMIT = 0.25
# Prior draws so far from an observation, in their own spread, explain nothing.
PREDICTIVE_DISTANCE_LIMIT = 5.0

_MOST_AT_ONCE = 2**23

_MIN_TAIL = 5
_GRID_SIZE = 30
_PRIOR_OBSERVATIONS = 10
_PRIOR_SHAPE = 0.5
_PRIOR_THETA = 3.0
# Weights that agree to this relative precision count as equal: they have no tail.
_EQUAL_WEIGHTS = 1e-10


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """The log marginal likelihood as estimated from weights.

    Attributes:
        value: log of the mean weight, in nats; -inf if every weight is 0.
        standard_error: Delta-method standard error, in nats; nan if undefined.
    """

    value: float
    standard_error: float


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


@dataclass(frozen=True, slots=True)
class LatentSummary:
    """What the particles say of one number.

    Attributes:
        name: The document's name of the latent.
        label: The program's name, with an index for an element of a vector.
        mean: Posterior mean.
        mean_standard_error: Monte Carlo standard error of the mean.
        sd: Posterior standard deviation.
        quantile_05: The 5 % quantile.
        quantile_95: The 95 % quantile.
    """

    name: str
    label: str
    mean: float
    mean_standard_error: float
    sd: float
    quantile_05: float
    quantile_95: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What the particles say, and how far to trust it.

    Attributes:
        num_particles: Number of particles.
        num_zero_weights: Number of particles of weight 0.
        log_evidence: In nats; -inf if every weight is 0.
        log_evidence_standard_error: In nats; nan if undefined.
        ess: Effective sample size.
        ess_fraction: ess / num_particles.
        k_hat: Pareto shape of the weights' tail; nan, -inf and inf as `pareto_k_hat`.
        latents: One summary per column; none if every weight is 0.
        cautions: Reasons not to trust the estimates.
    """

    num_particles: int
    num_zero_weights: int
    log_evidence: float
    log_evidence_standard_error: float
    ess: float
    ess_fraction: float
    k_hat: float
    latents: tuple[LatentSummary, ...]
    cautions: tuple[Caution, ...]

    def to_json(self) -> dict[str, object]:
        """Return the summary as plain values; null stands for what is not finite."""
        plain = asdict(self)
        plain["latents"] = [_finite_or_null(latent) for latent in plain["latents"]]
        plain["cautions"] = list(plain["cautions"])
        return _finite_or_null(plain)


def ess(log_weights: Float[Tensor, " particle"]) -> float:
    """Return (Σw)² / Σw², between 1 and N; 0 if every weight is 0."""
    return WeightTotals.from_log_weights(log_weights).ess


def ess_fraction(log_weights: Float[Tensor, " particle"]) -> float:
    """Return ess / N, between 0 and 1."""
    return WeightTotals.from_log_weights(log_weights).ess_fraction


def log_evidence(log_weights: Float[Tensor, " particle"]) -> LogEvidence:
    """Return log of the mean weight, with its standard error.

    The error is the delta method's, √((N / ess - 1) / (N - 1)), for independent draws.
    It is itself estimated from the weights: a proposal that misses a region does not
    know what it missed, so read it together with k-hat.
    """
    totals = WeightTotals.from_log_weights(log_weights)
    return LogEvidence(totals.log_evidence, totals.log_evidence_standard_error)


def pareto_k_hat(log_weights: Float[Tensor, " particle"]) -> float:
    """Return the Pareto shape of the tail of the weights.

    It is nan for fewer than 25 particles (no tail to fit), -inf if the largest weights
    are all equal (no tail at all), and +inf if fewer than 5 weights rise above the
    cutoff (nothing but a tail).

    Raises:
        InferenceError: If a log weight is nan or +inf.
    """
    check_log_weights(log_weights, "k-hat")
    num = log_weights.shape[0]
    num_tail = int(min(num / 5, math.ceil(3 * math.sqrt(num))))
    if num_tail < _MIN_TAIL:
        return math.nan
    largest = log_weights.topk(num_tail + 1).values.flip(0)
    if bool(largest[-1] == -math.inf):
        return math.inf
    # Scaled by the largest weight; a cutoff of weight 0 is one like any other.
    relative = (largest - largest[-1]).exp()
    if float(relative[-1] - relative[0]) < _EQUAL_WEIGHTS:
        return -math.inf
    excess = relative[1:] - relative[0]
    excess = excess[excess > 0.0]
    if excess.shape[0] < _MIN_TAIL:
        return math.inf
    return _pareto_shape(excess)


def cautions(totals: WeightTotals, k_hat: float) -> tuple[Caution, ...]:
    """Return the reasons not to trust estimates from such weights, worst first."""
    if totals.num_particles == totals.num_zero:
        return (
            Caution(
                f"none of {totals.num_particles} particles has a positive weight",
                "the estimated evidence is 0, the effective sample size is 0 and no"
                " posterior average exists",
                "Check that the model can produce the observation; then draw more"
                " particles, use a broader proposal (the prior, or a mixture with it)"
                " or annealed SMC",
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
                "Train the flow longer, mix the prior into the proposal (defensive"
                " mixture), or use annealed SMC; more particles alone help slowly",
            )
        )
    if totals.ess_fraction < ESS_FRACTION_LIMIT:
        found.append(
            Caution(
                f"the effective sample size is {totals.ess:.3g} of"
                f" {totals.num_particles} particles ({totals.ess_fraction:.2%})",
                "almost all particles are wasted, the proposal misses the posterior",
                "Train the flow longer, or on data like this observation; or use"
                " annealed SMC from this proposal",
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
            "Draw more particles; improve the proposal first if k-hat is high as well",
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
            f"{label} = {float(observed[i]):g} lies {float(distance[i]):.0f} prior"
            " predictive standard deviations from what the model draws",
            "a proposal trained on the model's own draws has never seen such data, and"
            " the model hardly explains them",
            "Check the observation and its unit, or widen the model; if both are"
            " right, use annealed SMC",
        )
        for i, label in enumerate(labels)
        if bool(is_beyond[i]) and float(distance[i]) > PREDICTIVE_DISTANCE_LIMIT
    )


def summarize(particles: Particles) -> Summary:
    """Return what the particles say of every latent, and how far to trust it."""
    totals = particles.totals
    k_hat = pareto_k_hat(particles.log_weights)
    has_weight = totals.num_zero < totals.num_particles
    return Summary(
        totals.num_particles,
        totals.num_zero,
        totals.log_evidence,
        totals.log_evidence_standard_error,
        totals.ess,
        totals.ess_fraction,
        k_hat,
        _latent_summaries(particles) if has_weight else (),
        cautions(totals, k_hat),
    )


def _latent_summaries(particles: Particles) -> tuple[LatentSummary, ...]:
    names = [each.name for each in particles.columns for _ in each.element_labels]
    figures: list[tuple[float, ...]] = []
    # A few columns at a time: many particles need not fit into memory twice.
    width = max(1, _MOST_AT_ONCE // particles.num_particles)
    for start in range(0, len(names), width):
        block = particles.latents[:, start : start + width]
        part = Particles(block, particles.log_weights, ())
        figures += zip(
            part.mean().tolist(),
            part.mean_standard_error().tolist(),
            part.sd().tolist(),
            *part.quantiles([0.05, 0.95]).tolist(),
            strict=True,
        )
    rows = zip(names, particles.element_labels, figures, strict=True)
    return tuple(LatentSummary(name, label, *row) for name, label, row in rows)


def _pareto_shape(excess: Float[Tensor, " tail"]) -> float:
    """Return the fitted shape of positive exceedances in ascending order."""
    num = excess.shape[0]
    num_grid = _GRID_SIZE + math.isqrt(num)
    index = torch.arange(1, num_grid + 1, dtype=torch.float64, device=excess.device)
    quartile = excess[int(num / 4 + 0.5) - 1]
    offset = (1.0 - (num_grid / (index - 0.5)).sqrt()) / (_PRIOR_THETA * quartile)
    theta = 1.0 / excess[-1] + offset
    shape = torch.log1p(-theta.unsqueeze(1) * excess).mean(1)
    log_profile = num * ((-theta / shape).log() - shape - 1.0)
    mean_theta = log_profile.softmax(0) @ theta
    fitted = float(torch.log1p(-mean_theta * excess).mean())
    weight = num + _PRIOR_OBSERVATIONS
    return (num * fitted + _PRIOR_OBSERVATIONS * _PRIOR_SHAPE) / weight


def _finite_or_null(values: dict[str, object]) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }

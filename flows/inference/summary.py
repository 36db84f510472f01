"""This file sums weighted values up: what they say of every number, and how surely."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from jaxtyping import Float
from torch import Tensor

from daphne_bridge.errors import printable

from ..model.layout import Variable
from .averages import Averages
from .cautions import Caution, cautions
from .pareto import pareto_k_hat
from .plain import plain
from .weights import WeightTotals

__all__ = ["LatentSummary", "Summary", "summarize"]

_MOST_AT_ONCE = 2**23
_HEADINGS = ("mean", "± MC", "sd", "5 %", "median", "95 %")


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
        median: The median.
        quantile_95: The 95 % quantile.
    """

    name: str
    label: str
    mean: float
    mean_standard_error: float
    sd: float
    quantile_05: float
    median: float
    quantile_95: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What the particles say, and how far to trust it; printed, it is a table.

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
        found: dict[str, object] = plain(asdict(self))
        return found

    def __str__(self) -> str:
        """Return a table of the latents, and below it how far to trust it."""
        width = max([len("latent"), *(len(each.label) for each in self.latents)])
        lines = ["latent".ljust(width) + "".join(f"{h:>12}" for h in _HEADINGS)]
        for each in self.latents:
            figures = (
                each.mean,
                each.mean_standard_error,
                each.sd,
                each.quantile_05,
                each.median,
                each.quantile_95,
            )
            label = printable(each.label).ljust(width)
            lines.append(label + "".join(f"{figure:>12.4g}" for figure in figures))
        error = self.log_evidence_standard_error
        known = f"± {error:.2g} nats" if math.isfinite(error) else "nats, ± not known"
        return "\n".join(
            [
                *lines,
                f"log evidence  {self.log_evidence:.6g} {known}",
                f"ESS / N       {self.ess_fraction:.3g} of {self.num_particles}"
                " particles",
                f"Pareto k-hat  {self.k_hat:.3g}",
                *(f"caution: {caution}" for caution in self.cautions),
            ]
        )


def summarize(
    latents: Float[Tensor, "particle latent"],
    log_weights: Float[Tensor, " particle"],
    columns: Sequence[Variable],
) -> Summary:
    """Return what weighted values say of every latent, and how far to trust it.

    Args:
        latents: Natural values, one row per particle.
        log_weights: Unnormalised, in nats.
        columns: Which columns belong to which latent.

    Raises:
        InferenceError: If a log weight is nan or +inf.
    """
    totals = WeightTotals.from_log_weights(log_weights)
    k_hat = pareto_k_hat(log_weights)
    has_weight = totals.num_zero < totals.num_particles
    return Summary(
        totals.num_particles,
        totals.num_zero,
        totals.log_evidence,
        totals.log_evidence_standard_error,
        totals.ess,
        totals.ess_fraction,
        k_hat,
        _latent_summaries(latents, log_weights, columns) if has_weight else (),
        cautions(totals, k_hat),
    )


def _latent_summaries(
    latents: Float[Tensor, "particle latent"],
    log_weights: Float[Tensor, " particle"],
    columns: Sequence[Variable],
) -> tuple[LatentSummary, ...]:
    names = [(c.name, label) for c in columns for label in c.column_names]
    figures: list[tuple[float, ...]] = []
    # A few columns at a time: many particles need not fit into memory twice.
    width = max(1, _MOST_AT_ONCE // len(latents))
    for start in range(0, len(names), width):
        part = Averages(latents[:, start : start + width], log_weights)
        figures += zip(
            part.mean().tolist(),
            part.mean_standard_error().tolist(),
            part.sd().tolist(),
            *part.quantiles([0.05, 0.5, 0.95]).tolist(),
            strict=True,
        )
    return tuple(
        LatentSummary(*name, *row) for name, row in zip(names, figures, strict=True)
    )

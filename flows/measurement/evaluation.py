"""This file measures a trained flow by one protocol, so that figures can be compared.

- J, the symmetric KL, with its two directions: over fresh joint draws, exact
  divergence, adaptive float64 solve.
- Quality as a proposal: ESS / N over prior-predictive data sets, N draws each, solved
  as weights are (`cnf/checked.py`), and ESS per second of processor time; beside it
  the same of the prior, on the same data.
- Calibration: per latent the rank of the truth among draws of q given its data is
  uniform (simulation-based calibration); the draws are the flow's own, unweighted.
- Marginals: per latent the Kolmogorov-Smirnov statistic between q(z | x) p(x) and
  p(z, x).
- Cost: evaluations of the vector field per direction, and multiply-adds of one.

References:
    Talts, Betancourt, Simpson, Vehtari, Gelman, "Validating Bayesian inference
    algorithms with simulation-based calibration", 2018.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.completed import Completed
from ..flow.kinds import certified, for_weights
from ..flow.protocol import Counted, Evaluations, Flow
from ..inference.calibration import (
    RankHistogram,
    ks_statistic,
    num_rank_bins,
    rank_histogram,
    sbc_ranks,
)
from ..inference.log_weight import checked_log_weights
from ..inference.plain import plain
from ..inference.proposal import PriorProposal
from ..inference.weights import WeightTotals
from ..marginal.target import FlowTarget
from ..model.standard_normal import standard_normal_log_prob
from ..training.batches import draw_batch
from ..training.estimates import SymmetricEstimate, estimate_symmetric

__all__ = [
    "PROPOSAL_FIGURES",
    "Evaluation",
    "EvaluationConfig",
    "EvaluationProgress",
    "ProposalFigures",
    "evaluate",
]

PROPOSAL_FIGURES = (
    ("ess_median", "ESS / N, median"),
    ("ess_quantile_10", "ESS / N, 10 % quantile"),
    ("ess_quantile_05", "ESS / N, 5 % quantile"),
    ("ess_per_cpu_second", "ESS per CPU second"),
)
"""What a file of `evaluate` says of a proposal, and in words."""

_ROWS = 4096
"""Drawn together at most."""
_COLUMNS = 2**17
"""State columns of the rows that are solved together, which bounds memory."""
_SBC_DRAWS = 99
"""Draws for each data set, at most, that ranks are taken among."""


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How much is drawn.

    Attributes:
        num_draws: Joint draws for J, used in both directions, and for the marginals.
        num_data_sets: Prior-predictive data sets for ESS and calibration.
        num_particles: Draws per data set.
        seed: Of every draw.
    """

    num_draws: int = 10_000
    num_data_sets: int = 100
    num_particles: int = 1000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How many rows of an evaluation are solved; the last report has its result."""

    rows_done: int
    rows_total: int
    result: "Evaluation | None" = None


@dataclass(frozen=True, slots=True)
class LatentFigures:
    """Figures of one number among the latents.

    Attributes:
        name: Label, with the position in a vector.
        ks: Kolmogorov-Smirnov statistic of its marginal.
        ranks: Calibration ranks in bins.
    """

    name: str
    ks: float
    ranks: RankHistogram


@dataclass(frozen=True, slots=True)
class ProposalFigures:
    """How well a proposal serves the data sets.

    Attributes:
        ess_median: Median of ESS / N over the data sets.
        ess_quantile_10: Its 10 % quantile.
        ess_quantile_05: Its 5 % quantile.
        ess_per_cpu_second: Effective draws of all data sets together, per second of
            processor time spent on drawing and weighing.
    """

    ess_median: float
    ess_quantile_10: float
    ess_quantile_05: float
    ess_per_cpu_second: float

    @classmethod
    def from_fractions(
        cls, fractions: list[float], num_particles: int, seconds: float
    ) -> "ProposalFigures":
        """Return the figures of ESS / N of every data set, drawn in so many seconds."""
        values = torch.tensor(fractions, dtype=torch.float64)
        levels = torch.tensor([0.5, 0.1, 0.05], dtype=torch.float64)
        speed = float(values.sum()) * num_particles / seconds if seconds else math.nan
        median, low, lower = torch.quantile(values, levels).tolist()
        return cls(median, low, lower, speed)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        j: Symmetric KL in nats with its two directions.
        flow: The flow as a proposal.
        prior: The prior as a proposal, on the same data sets.
        latents: Figures per number among the latents.
        evaluations_base_to_latent: Evaluations of the field to draw.
        evaluations_latent_to_base: Evaluations of the field to score.
        multiply_adds: Of one evaluation for one row, entries that exist only.
        num_parameters: Trained numbers.
        config: How much was drawn.
    """

    j: SymmetricEstimate
    flow: ProposalFigures
    prior: ProposalFigures
    latents: tuple[LatentFigures, ...]
    evaluations_base_to_latent: int
    evaluations_latent_to_base: int
    multiply_adds: int
    num_parameters: int
    config: EvaluationConfig

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not finite."""
        found: dict[str, Any] = plain(asdict(self))
        for entry, latent in zip(found["latents"], self.latents, strict=True):
            entry["is_calibrated"] = latent.ranks.is_uniform
        return found


def evaluate(
    model: FlowTarget,
    flow: Flow,
    config: EvaluationConfig,
    *,
    tolerance: float = 1e-6,
    clock: Callable[[], float] = time.process_time,
) -> Iterator[EvaluationProgress]:
    """Yield progress, and the evaluation with the last report.

    Args:
        model: The target, float64.
        flow: In the model's columns, float64.
        config: How much to draw.
        tolerance: Of the solver.
        clock: Gives the processor time in seconds.
    """
    generator = torch.Generator().manual_seed(config.seed)
    exact, counts = _counted(certified(flow, tolerance))
    weighing = for_weights(flow, tolerance)
    total = 2 * config.num_draws + config.num_data_sets * config.num_particles
    done = 0
    # What a flow draws may have no meaning in the model, where its density is 0.
    judge = model.forgiving()
    forward, reverse, truth, drawn = [], [], [], []
    for start in range(0, config.num_draws, _ROWS):
        count = min(_ROWS, config.num_draws - start)
        with torch.no_grad():
            batch = draw_batch(model, flow, count, generator=generator)
            for part in _solvable(flow, range(count)):
                rows = batch.rows(part.start, part.stop)
                log_prob = exact.log_prob(rows.free, rows.nuisances, rows.observed)
                forward.append(rows.log_joint - log_prob)
                free, terms = _reverse(judge, exact, rows.base, rows.observed)
                reverse.append(terms)
                drawn.append(model.constrain(free)[0])
            truth.append(model.constrain(batch.free)[0])
        done += 2 * count
        yield EvaluationProgress(done, total)
    # The prior has draws of its own, so that the flow's are the same without it.
    prior = _PriorWeights(model, config)
    seconds = prior_seconds = 0.0
    ess: list[float] = []
    prior_ess: list[float] = []
    ranks: list[Tensor] = []
    sets = max(1, _ROWS // config.num_particles)
    for start in range(0, config.num_data_sets, sets):
        count = min(sets, config.num_data_sets - start)
        with torch.no_grad():
            batch = draw_batch(model, flow, count, generator=generator)
            begin = clock()
            base = flow.sample_base(count * config.num_particles, generator=generator)
            found = [
                _reverse(
                    judge,
                    weighing,
                    base[part.start : part.stop],
                    batch.observed[torch.tensor(part) // config.num_particles],
                )
                for part in _solvable(flow, range(len(base)))
            ]
            free, terms = (torch.cat(each) for each in zip(*found, strict=True))
            latents = model.constrain(free)[0]
            seconds += clock() - begin
            latents = latents.reshape(count, config.num_particles, -1)
            data_truth = model.constrain(batch.free)[0]
        for row, log_weights in enumerate((-terms).reshape(count, -1)):
            ess.append(_ess_fraction(log_weights))
            draws = latents[row, : min(_SBC_DRAWS, config.num_particles)]
            ranks.append(sbc_ranks(data_truth[row], draws, generator=generator))
            begin = clock()
            prior_ess.append(prior.ess_fraction(batch.observed[row]))
            prior_seconds += clock() - begin
        done += count * config.num_particles
        yield EvaluationProgress(done, total)
    result = Evaluation(
        j=estimate_symmetric(torch.cat(forward), torch.cat(reverse)),
        flow=ProposalFigures.from_fractions(ess, config.num_particles, seconds),
        prior=ProposalFigures.from_fractions(
            prior_ess, config.num_particles, prior_seconds
        ),
        latents=_latent_figures(
            model, torch.cat(truth), torch.cat(drawn), torch.stack(ranks), config
        ),
        evaluations_base_to_latent=counts.to_latent if counts else 0,
        evaluations_latent_to_base=counts.to_base if counts else 0,
        multiply_adds=counts.multiply_adds if counts else 0,
        num_parameters=sum(p.numel() for p in flow.parameters()),
        config=config,
    )
    yield EvaluationProgress(total, total, result)


def _counted(flow: Flow) -> tuple[Flow, Evaluations | None]:
    """Return a flow whose evaluations are counted, if its solver can."""
    if isinstance(flow, Completed):
        inner, counts = _counted(flow.inner)
        return flow.around(inner), counts
    return flow.counted() if isinstance(flow, Counted) else (flow, None)


def _solvable(flow: Flow, rows: range) -> list[range]:
    """Return rows in parts that are solved together."""
    most = max(1, min(_ROWS, _COLUMNS // flow.structure.state_dim))
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def _reverse(
    model: FlowTarget, flow: Flow, base: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor]:
    """Return draws in free coordinates and the terms of the reverse KL."""
    draw = flow.from_base(base, observed)
    nuisance = standard_normal_log_prob(draw.nuisances)
    target = model.log_joint_free(draw.free, observed) + nuisance
    return draw.free, draw.log_prob - target


def _ess_fraction(log_weights: Float[Tensor, " draw"]) -> float:
    """Return ESS / N for one data set; 0 where a weight is no number.

    So it is where the data lie so far out that the flow overflows: there it is no
    proposal at all.
    """
    if bool((log_weights.isnan() | (log_weights == math.inf)).any()):
        return 0.0
    return WeightTotals.from_log_weights(log_weights).ess_fraction


class _PriorWeights:
    """Weighs draws of the prior."""

    def __init__(self, model: FlowTarget, config: EvaluationConfig) -> None:
        self._model = model
        self._proposal = PriorProposal(model)
        self._num = config.num_particles
        self._generator = torch.Generator().manual_seed(config.seed)
        # The first call prepares the model; that is no time of the proposal.
        self.ess_fraction(model.observation())

    @torch.no_grad()
    def ess_fraction(self, observed: Float[Tensor, " observed"]) -> float:
        """Return ESS / N given these data."""
        draw = self._proposal.rsample_and_log_prob(
            observed, self._num, generator=self._generator
        )
        log_weights = checked_log_weights(self._model, draw, observed)
        return WeightTotals.from_log_weights(log_weights).ess_fraction


def _latent_figures(
    model: FlowTarget,
    truth: Float[Tensor, "draw latent"],
    drawn: Float[Tensor, "draw latent"],
    ranks: Tensor,
    config: EvaluationConfig,
) -> tuple[LatentFigures, ...]:
    statistics = ks_statistic(truth, drawn).tolist()
    names = [n for variable in model.layout.latents for n in variable.column_names]
    num_draws = min(_SBC_DRAWS, config.num_particles)
    bins = num_rank_bins(config.num_data_sets, num_draws)
    return tuple(
        LatentFigures(
            name,
            statistic,
            rank_histogram(
                ranks[:, column],
                num_draws,
                num_bins=bins,
                num_histograms=len(names),
            ),
        )
        for column, (name, statistic) in enumerate(zip(names, statistics, strict=True))
    )

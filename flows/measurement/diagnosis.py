r"""This file finds out where a trained flow is wrong, over data that its model draws.

For every prior-predictive data set x, with truth z, the flow draws N particles:

- ESS / N and Pareto k-hat of their weights;
- simulation-based calibration: the rank of the truth among the flow's own draws is
  uniform if q(z | x) is the posterior; expected coverage is the share of truths inside
  the central intervals of the draws, from the same ranks;
- the same of the weighted draws, which are what inference answers with: the level of
  the truth among them is uniform if draws, densities and weights fit together, however
  good the flow is (`inference.calibration`);
- weakness of a node. With log w = Σ c_i (`proposals/weight_terms.py`), Var(log w) =
  Σ Cov(c_i, log w), within one data set. Cov(c_i, log w) is what node i costs there, in
  squared nats; it may be negative where one node makes up for another. Means over data
  sets add up, medians say what is usual: a particle far below the others may cost more
  than all else here, and yet next to no ess.

Marginals: per latent the Kolmogorov-Smirnov statistic between truths and one draw each,
and histograms of both.

References:
    Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference
    algorithms with simulation-based calibration, https://arxiv.org/abs/1804.06788
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..flow.protocol import Flow
from ..inference import calibration
from ..inference.calibration import RankHistogram
from ..inference.pareto import pareto_k_hat
from ..inference.plain import plain
from ..inference.weights import WeightTotals, check_log_weights
from ..marginal.target import FlowTarget
from ..proposals.weight_terms import Contributions, contributions_of
from ..training.batches import draw_batch

__all__ = ["Diagnosis", "DiagnosisConfig", "DiagnosisProgress", "diagnose"]


@dataclass(frozen=True, slots=True)
class DiagnosisConfig:
    """How much is drawn.

    Attributes:
        num_data_sets: Prior-predictive data sets.
        num_particles: Particles for each, 100 or more.
        seed: Of every draw.
    """

    num_data_sets: int = 1000
    num_particles: int = 100
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Marginal:
    """Truths and draws of one number among the latents, counted in the same bins.

    Attributes:
        edges: Ends of the bins.
        truths: How many truths fall into each bin.
        draws: How many draws, one for each data set.
    """

    edges: tuple[float, ...]
    truths: tuple[int, ...]
    draws: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LatentDiagnosis:
    """What was found about one number among the latents.

    Attributes:
        name: Label, with the position in a vector.
        ks: Kolmogorov-Smirnov statistic of its marginal.
        marginal: Histograms of truths and draws.
        ranks: Calibration ranks of the flow's draws in bins, with their band.
        weighted_ranks: The same of the weighted draws.
        coverage: Share of truths inside the central intervals.
    """

    name: str
    ks: float
    marginal: Marginal
    ranks: RankHistogram
    weighted_ranks: RankHistogram
    coverage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NodeWeakness:
    """What the conditional of the latent of this label costs.

    That is its part of the variance of log weights, in squared nats: the mean and the
    median over data sets.
    """

    name: str
    variance: float
    median_variance: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        ess_fractions: ESS / N of every data set.
        k_hats: Pareto k-hat of every data set.
        latents: One entry per number among the latents.
        log_weight_variance: Mean variance of log weights within a data set.
        median_log_weight_variance: The median of it.
        nodes: Parts of this variance, in sampling order; none of models with discrete
            latents, whose factors belong to no node of the flow.
        coverage_levels: Masses of the central intervals.
        config: How much was drawn.
    """

    ess_fractions: tuple[float, ...]
    k_hats: tuple[float, ...]
    latents: tuple[LatentDiagnosis, ...]
    log_weight_variance: float
    median_log_weight_variance: float
    nodes: tuple[NodeWeakness, ...]
    coverage_levels: tuple[float, ...]
    config: DiagnosisConfig

    @property
    def is_calibrated(self) -> bool | None:
        """Whether the flow's ranks of all latents stay inside the joint 99 % band.

        None where there are too few data sets to say so.
        """
        return calibration.all_uniform(latent.ranks for latent in self.latents)

    @property
    def is_weighted_calibrated(self) -> bool | None:
        """Whether the ranks of the weighted draws do."""
        return calibration.all_uniform(latent.weighted_ranks for latent in self.latents)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not finite."""
        found: dict[str, Any] = plain(asdict(self))
        found["is_calibrated"] = self.is_calibrated
        found["is_weighted_calibrated"] = self.is_weighted_calibrated
        for entry, latent in zip(found["latents"], self.latents, strict=True):
            entry["is_calibrated"] = latent.ranks.is_uniform
            entry["is_weighted_calibrated"] = latent.weighted_ranks.is_uniform
        return found


@dataclass(frozen=True, slots=True)
class DiagnosisProgress:
    """How far a diagnosis is.

    Attributes:
        fraction: Share of the way, from 0 to 1.
        result: The diagnosis, with the last report only.
    """

    fraction: float
    result: Diagnosis | None = None


COVERAGE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Masses of the central intervals whose coverage is counted."""
_SBC_DRAWS = 99
"""The flow's draws for each data set that ranks are taken among."""
_NUM_MARGINAL_BINS = 40
_ROWS = 4096
"""Solved together at most."""


def diagnose(
    model: FlowTarget, flow: Flow, config: DiagnosisConfig
) -> Iterator[DiagnosisProgress]:
    """Yield progress, and the diagnosis with the last report.

    Args:
        model: The target, float64.
        flow: In the model's columns, float64.
        config: How much to draw.

    Raises:
        ValueError: If too little is drawn to say anything.
    """
    if config.num_particles <= _SBC_DRAWS or config.num_data_sets < 2:
        raise ValueError(
            f"diagnosis: expected more than {_SBC_DRAWS} particles and 1 data set;"
            f" got {config.num_particles} and {config.num_data_sets}"
        )
    return _diagnose(model, flow, config)


@torch.no_grad()
def _diagnose(
    model: FlowTarget, flow: Flow, config: DiagnosisConfig
) -> Iterator[DiagnosisProgress]:
    generator = torch.Generator().manual_seed(config.seed)
    terms_of = contributions_of(model, flow)
    num = config.num_particles
    ess: list[float] = []
    k_hats: list[float] = []
    ranks, levels, truths, lasts, costs, totals = [], [], [], [], [], []
    sets = max(1, _ROWS // num)
    for start in range(0, config.num_data_sets, sets):
        count = min(sets, config.num_data_sets - start)
        batch = draw_batch(model, flow, count, generator=generator)
        observed = batch.observed.repeat_interleave(num, 0)
        draw = flow.rsample_and_log_prob(observed, generator=generator)
        latents, parts = terms_of(draw, observed)
        parts = parts.reshape(count, num, -1)
        latents = latents.reshape(count, num, -1)
        truth = model.constrain(batch.free)[0]
        log_weights = parts.sum(2)
        log_prob = flow.log_prob(batch.free, batch.nuisances, batch.observed)
        truth_log_weights = batch.log_joint - log_prob
        check_log_weights(truth_log_weights, "diagnosis")
        for row in range(count):
            weights = log_weights[row]
            ess.append(WeightTotals.from_log_weights(weights).ess_fraction)
            k_hats.append(pareto_k_hat(weights))
            draws = latents[row, :_SBC_DRAWS]
            ranks.append(calibration.sbc_ranks(truth[row], draws, generator=generator))
            levels.append(
                calibration.weighted_levels(
                    truth[row],
                    truth_log_weights[row],
                    latents[row],
                    weights,
                    generator=generator,
                )
            )
            possible = parts[row][weights > -math.inf]
            if possible.shape[0] > 1:
                sums = possible.sum(1)
                gap = (sums - sums.mean()) / (possible.shape[0] - 1)
                costs.append(gap @ (possible - possible.mean(0)))
                totals.append(sums.var())
        truths.append(truth)
        lasts.append(latents[:, -1])
        yield DiagnosisProgress((start + count) / config.num_data_sets)
    names = [n for variable in model.layout.latents for n in variable.column_names]
    blocks = flow.structure.blocks if isinstance(terms_of, Contributions) else ()
    nothing = torch.full((1, len(blocks)), math.nan, dtype=torch.float64)
    parts_of_nodes = torch.stack(costs) if costs else nothing
    totals_of_sets = torch.stack(totals) if totals else nothing[0]
    labels = {v.name: v.label for v in model.layout.latents}
    result = Diagnosis(
        tuple(ess),
        tuple(k_hats),
        _latents(
            names,
            torch.cat(truths),
            torch.cat(lasts),
            torch.stack(ranks),
            torch.stack(levels),
        ),
        float(totals_of_sets.mean()),
        float(totals_of_sets.median()),
        tuple(
            NodeWeakness(labels[block.name], mean, median)
            for block, mean, median in zip(
                blocks,
                parts_of_nodes.mean(0).tolist(),
                parts_of_nodes.median(0).values.tolist(),
                strict=bool(blocks),
            )
        ),
        COVERAGE_LEVELS,
        config,
    )
    yield DiagnosisProgress(1.0, result)


def _latents(
    names: list[str],
    truths: Float[Tensor, "data_set latent"],
    draws: Float[Tensor, "data_set latent"],
    ranks: Int[Tensor, "data_set latent"],
    levels: Float[Tensor, "data_set latent"],
) -> tuple[LatentDiagnosis, ...]:
    num_sets = ranks.shape[0]
    statistics = calibration.ks_statistic(truths, draws).tolist()
    bins = calibration.num_rank_bins(num_sets, _SBC_DRAWS)
    # How far a truth lies from the middle of its draws, as a mass between 0 and 1.
    distance = ((ranks + 0.5) / (_SBC_DRAWS + 1) * 2.0 - 1.0).abs()
    # Levels counted in bins are ranks among as many draws as there are bins, less one.
    bin_of = (levels * bins).long().clamp(max=bins - 1)

    def histogram(own: Int[Tensor, " data_set"], num_draws: int) -> RankHistogram:
        return calibration.rank_histogram(
            own, num_draws, num_bins=bins, num_histograms=len(names)
        )

    return tuple(
        LatentDiagnosis(
            name,
            statistic,
            _marginal(truths[:, i], draws[:, i]),
            histogram(ranks[:, i], _SBC_DRAWS),
            histogram(bin_of[:, i], bins - 1),
            tuple(float((distance[:, i] < p).double().mean()) for p in COVERAGE_LEVELS),
        )
        for i, (name, statistic) in enumerate(zip(names, statistics, strict=True))
    )


def _marginal(
    truths: Float[Tensor, " data_set"], draws: Float[Tensor, " data_set"]
) -> Marginal:
    both = torch.cat([truths, draws])
    # Tails do not squeeze the picture: what lies outside counts at the ends.
    levels = torch.tensor([0.005, 0.995], dtype=both.dtype)
    low, high = torch.quantile(both, levels).tolist()
    edges = torch.linspace(low, high, _NUM_MARGINAL_BINS + 1, dtype=both.dtype)

    def counts(values: Tensor) -> tuple[int, ...]:
        places = torch.bucketize(values.contiguous(), edges[1:-1], right=True)
        return tuple(torch.bincount(places, minlength=_NUM_MARGINAL_BINS).tolist())

    return Marginal(tuple(edges.tolist()), counts(truths), counts(draws))

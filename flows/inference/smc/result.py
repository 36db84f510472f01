r"""This file says what runs of sequential Monte Carlo have found, and how surely.

Particles share ancestors, so the formulas for independent weights do not hold. With W_e
the share of the weight that descends from the first particle e (`lineages`), and S_e
the part of Σ_i W_i (f_i - mean f) that does,

    se² of the log evidence = (N Σ_e W_e² - 1) / (N - 1),
    se² of mean f           = Σ_e S_e² / (1 - Σ_e W_e²),

which are the usual ones where nothing was resampled. They are averages over 1 / Σ W_e²
lines of descent. Where these are few the formulas say too little (with one line left,
that every mean is exact), so below 10 the errors are not known: nan, and a caution.

Independent runs stand side by side, each counting by its weights, and so do their
lines. From 20 runs on a whole run takes the place of a line: the errors are then those
of the spread over runs, which ask nothing of what happens inside a run.

References:
    Chan, Lai (2013), A general theory of particle filters in hidden Markov models and
    some applications, Annals of Statistics 41(6), https://arxiv.org/abs/1312.5114
    Lee, Whiteley (2018), Variance estimation in the particle filter, Biometrika 105(3),
    https://arxiv.org/abs/1509.00394
    Vergé, Dubarry, Del Moral, Moulines (2015), On parallel implementation of sequential
    Monte Carlo methods: the island particle model, https://arxiv.org/abs/1306.3911
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...model.layout import Layout
from ..cautions import Caution, evidence_cautions
from ..columns import latent_columns
from ..noise import seed_of_part
from ..particles import Particles
from ..summary import Summary
from .ancestry import Lineages

__all__ = [
    "SmcResult",
    "merge_runs",
    "run_seed",
    "summarize_smc",
]

# Over fewer independent parts than this a standard error is a guess.
_MIN_PARTS = 10
# The spread of so many runs is known to a sixth.
_MIN_RUNS = 20


@dataclass(frozen=True, slots=True, eq=False)
class SmcResult:
    """What one run leaves, or several independent ones side by side.

    Attributes:
        particles: The particles; the log of their mean weight is the log evidence.
        lineages: From which of the first particles each one descends.
        run_sizes: How many particles there are of each run, in order.
    """

    particles: Particles
    lineages: Lineages
    run_sizes: tuple[int, ...]

    @classmethod
    def from_run(
        cls,
        latents: Float[Tensor, "particle latent"],
        lineages: Lineages,
        layout: Layout,
    ) -> "SmcResult":
        """Return the result of one run, on the CPU."""
        particles = Particles.from_draws(
            latents.cpu(), lineages.log_weights.cpu(), latent_columns(layout)
        )
        num = particles.num_particles
        return cls(particles, lineages.weighed(particles.log_weights), (num,))

    @property
    def num_runs(self) -> int:
        """Return how many independent runs they are of."""
        return len(self.run_sizes)

    @property
    def log_evidence(self) -> float:
        """Return the log of the unbiased estimate of the evidence, in nats."""
        return self.particles.totals.log_evidence

    @property
    def log_evidence_standard_error(self) -> float:
        """Return its standard error over repetitions, in nats; nan if not known."""
        if not self.has_known_errors:
            return math.nan
        return self._parts.line_totals.log_evidence_standard_error

    @property
    def num_eves(self) -> int:
        """Return how many of the first particles have descendants with weight."""
        totals = self.lineages.line_totals
        return totals.num_particles - totals.num_zero

    @property
    def ess(self) -> float:
        """Return the effective number of lines of descent, 1 / Σ W_e²."""
        return self.lineages.line_totals.ess

    @property
    def has_known_errors(self) -> bool:
        """Whether the standard errors are known."""
        return self._parts.line_totals.ess >= _MIN_PARTS

    def mean_standard_error(self) -> Float[Tensor, " latent"]:
        """Return the standard error of the particles' mean; nan if not known."""
        return self.standard_error(self.particles.latents)

    def standard_error(
        self, values: Float[Tensor, "particle column"]
    ) -> Float[Tensor, " column"]:
        """Return the standard error of the weighted mean of any values of particles.

        It is the spread that the mean has over repetitions of the run; nan if not
        known.
        """
        parts = self._parts
        weights = self.particles.normalized_weights.unsqueeze(1)
        # Particles of weight 0 may be infinite and count as nothing.
        finite = torch.where(weights > 0.0, values, 0.0)
        gaps = parts.sums(weights * (finite - (weights * finite).sum(0)))
        if not self.has_known_errors:
            return torch.full_like(gaps[0], math.nan)
        shares = parts.sums(weights)
        return (gaps.square().sum(0) / (1.0 - shares.square().sum())).sqrt()

    @property
    def least_ess(self) -> float:
        """Return the effective sample size of the latent that is known worst.

        That is its variance over the squared standard error of its mean; the effective
        number of lines where errors are not known.
        """
        variance = self.particles.sd().square()
        found = variance / self.mean_standard_error().square()
        usable = found[(variance > 0.0) & found.isfinite()]
        if not usable.numel():
            return self.ess
        return min(float(usable.min()), float(self.particles.num_particles))

    @property
    def _parts(self) -> Lineages:
        """Return what is independent: many runs, or else lines of descent."""
        if self.num_runs < _MIN_RUNS:
            return self.lineages
        sizes = torch.tensor(self.run_sizes, device=self.lineages.eves.device)
        runs = torch.arange(self.num_runs, device=sizes.device).repeat_interleave(sizes)
        return Lineages(self.particles.log_weights, runs, self.num_runs)


def run_seed(seed: int, run: int) -> int:
    """Return the seed of one of several runs: that of all for the first of them."""
    if run == 0:
        return seed
    return seed_of_part(seed, run)


def merge_runs(runs: Sequence[SmcResult]) -> SmcResult:
    """Return independent runs as one result, each counting by its evidence.

    The merged evidence is the mean of theirs, whatever their numbers of particles.

    Raises:
        ArgumentError: If there is none, or if they differ in latents.
    """
    sizes = tuple(size for run in runs for size in run.run_sizes)
    merged = Particles.merge(run.particles for run in runs)
    mean = merged.num_particles / len(sizes)
    scales = [mean * run.num_runs / run.particles.num_particles for run in runs]
    log_weights = torch.cat(
        [
            run.particles.log_weights + math.log(scale)
            for run, scale in zip(runs, scales, strict=True)
        ]
    )
    particles = replace(merged, log_weights=log_weights)
    starts = np.cumsum([0, *(run.lineages.num_lines for run in runs)]).tolist()
    eves = [
        run.lineages.eves + start for run, start in zip(runs, starts[:-1], strict=True)
    ]
    lineages = Lineages(particles.log_weights, torch.cat(eves), starts[-1])
    return SmcResult(particles, lineages, sizes)


def summarize_smc(result: SmcResult) -> Summary:
    """Return the summary of runs, with errors that know of shared ancestors.

    The ess is 1 / Σ W_e², that of the lines of descent. There is no k-hat: nan. Errors
    that are not known are nan.
    """
    plain = result.particles.summary()
    if not plain.latents:
        return plain
    errors = result.mean_standard_error().tolist()
    latents = tuple(
        replace(latent, mean_standard_error=error)
        for latent, error in zip(plain.latents, errors, strict=True)
    )
    return replace(
        plain,
        log_evidence_standard_error=result.log_evidence_standard_error,
        ess=result.ess,
        ess_fraction=result.ess / result.particles.num_particles,
        k_hat=math.nan,
        latents=latents,
        cautions=_cautions(result),
    )


def _cautions(result: SmcResult) -> tuple[Caution, ...]:
    """Return what is to be said of the standard errors."""
    if result.has_known_errors:
        return evidence_cautions(result.log_evidence_standard_error)
    lines = f"{result.num_eves} of the first {result.lineages.num_lines}"
    return (
        Caution(
            f"all particles descend from {lines}, and in effect from {result.ess:.1f}",
            "the means and the evidence rest on so few independent lines that their"
            " standard errors are not known",
            f"Make {_MIN_RUNS} independent runs (--runs), whose spread is the error, or"
            " draw more particles (--num-particles)",
        ),
    )

"""This file owns `Question`: a model with data, and what every answer is made of."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.columns import latent_columns
from ..inference.importance import BATCH_SIZE, importance_particles
from ..inference.particles import Particles
from ..inference.proposal import PriorProposal, Proposal
from ..inference.smc.result import SmcResult
from ..marginal.collapsed import CollapsedModel
from ..model.discrete_values import kind_of
from ..model.model import Model
from ..model.returns import Leaf, Missing, return_value
from .answer import Inference
from .clock import Clock
from .figures import Figures, figures_of
from .islands import Islands
from .sampling import completed
from .targets import Target

__all__ = ["BATCH", "Question", "mapped", "returned_figures"]

BATCH = 1_000
"""Draws that are weighed at once where time matters."""
_LEAST_BATCH = 20
_MOST_ENTRIES = 2**24
"""Of all tables over all rows of such a batch, a second of work or so."""


@dataclass(frozen=True, eq=False)
class Question:
    """A model with data that is asked, and what every way to answer needs.

    Attributes:
        model: The model.
        target: What is drawn from (`targets.py`), rows without meaning impossible.
        observed: The data.
        num_particles: Draws of importance sampling, and of an exact answer.
        seed: Decides every draw.
        clock: The time that an answer may take.
        target_ess: Effective sample size of the slowest latent that is enough.
    """

    model: Model
    target: Target
    observed: Float[Tensor, " observed"]
    num_particles: int
    seed: int
    clock: Clock
    target_ess: float

    def drawn(self, num: int) -> Particles:
        """Return draws of the prior, weighted by the data where there are any."""
        if not self.model.layout.observed:
            generator = torch.Generator().manual_seed(self.seed)
            rows = self.target.sample_latents(
                num, generator=generator, observed=self.observed
            )
            bad = torch.isnan(rows).any(1)
            weights = torch.where(bad, -math.inf, rows.new_zeros(num))
            columns = latent_columns(self.target.layout)
            return Particles.from_draws(rows, weights, columns)
        proposal = PriorProposal(self.target)
        return self.weighed(proposal, num, seed=self.seed)

    def weighed(
        self, proposal: Proposal, num: int, *, seed: int, batch_size: int | None = None
    ) -> Particles:
        """Return weighted draws of a proposal, fewer where the time is up before.

        Args:
            proposal: What is drawn from.
            num: How many draws.
            seed: Decides them, together with `batch_size`.
            batch_size: How many at once, as many as usual if None; with a budget fewer,
                so that the clock is looked at in between.
        """
        size = batch_size or BATCH_SIZE
        if math.isfinite(self.clock.seconds):
            size = min(size, BATCH)
            if isinstance(self.target, CollapsedModel):
                entries = self.target.tables.row_entries
                size = min(size, max(_LEAST_BATCH, _MOST_ENTRIES // entries))
        return importance_particles(
            self.target,
            proposal,
            self.observed,
            num,
            seed=seed,
            batch_size=size,
            is_over=self.clock.is_over,
        )

    def completed(self, particles: Particles) -> Particles:
        """Return the particles with the latents that the target leaves out drawn."""
        return completed(self.target, particles, self.observed, self.seed)

    def latents(
        self, particles: Particles, smc: SmcResult | None
    ) -> dict[str, Figures]:
        """Return the figures of every latent, errors by lines of descent."""
        found: dict[str, Figures] = {}
        if particles.totals.log_sum == -math.inf:
            return found
        errors = None if smc is None else smc.standard_error(particles.latents)
        columns = particles.latents.T.contiguous()  # strided ones cost far more
        for variable in self.model.layout.latents:
            kind, categories = kind_of(self.model, variable.name)
            for place, label in enumerate(variable.column_names):
                column = variable.start + place
                found[label] = figures_of(
                    columns[column],
                    particles.log_weights,
                    mc_error=None if errors is None else float(errors[column]),
                    kind=kind,
                    categories=categories,
                )
        return found

    def returned(self, particles: Particles, smc: SmcResult | None) -> Any:
        """Return the return value with figures at its leaves."""
        if particles.totals.log_sum == -math.inf:
            return None
        return returned_figures(self.model, particles, self.observed, smc)

    def answered(
        self,
        method: str,
        why: str,
        draw: Callable[[], Particles],
        log_evidence: float,
        error: float,
        latents: Mapping[str, Figures],
        returned: Any,
        cautions: tuple[Caution, ...],
        *,
        is_trusted: bool,
        num_particles: int,
        ess: float,
        k_hat: float = math.nan,
        islands: Islands | None = None,
    ) -> Inference:
        """Return the answer, with the time that it took."""
        return Inference(
            method,
            why,
            self.model,
            self.observed,
            num_particles,
            draw,
            log_evidence,
            error,
            ess,
            k_hat,
            latents,
            returned,
            cautions,
            is_trusted,
            self.clock.passed,
            islands,
        )


def returned_figures(
    model: Model,
    particles: Particles,
    observed: Float[Tensor, " observed"],
    smc: SmcResult | None,
) -> Any:
    """Return a program's return value with figures at its leaves; None without one."""
    value = return_value(model.lowered)
    if value is None:
        return None
    columns = value.columns(particles.latents, observed)
    errors = None if smc is None else smc.standard_error(columns)

    def figures(leaf: Leaf) -> Figures:
        return figures_of(
            columns[:, leaf.column],
            particles.log_weights,
            mc_error=None if errors is None else float(errors[leaf.column]),
            kind=leaf.kind,
            categories=leaf.categories,
        )

    return mapped(value.value, figures)


def mapped(value: Any, figures: Callable[[Leaf], Figures]) -> Any:
    """Return a return value's shape with figures in place of its leaves.

    A leaf that is never nil under the posterior has the shape of what else it is.
    """
    match value:
        case Leaf():
            found = figures(value)
            chances = found.probabilities
            if value.present is None or not chances or "nil" in chances:
                return found
            if not math.isnan(found.mean):
                return found
            present = mapped(value.present, figures)
            if isinstance(present, Figures) and present.probabilities is None:
                return replace(present, probabilities=chances)
            return present
        case Missing():
            return f"nothing ({value.reason})"
        case tuple():
            return [mapped(item, figures) for item in value]
        case dict():
            return {key: mapped(item, figures) for key, item in value.items()}
    return value

"""This file answers exactly where all latents are discrete, or there is none."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.columns import latent_columns
from ..inference.particles import Particles
from ..marginal.collapsed import CollapsedModel
from ..marginal.exact import ExactPosterior
from ..model.discrete_values import kind_of
from ..model.model import Model
from ..model.returns import Leaf, ReturnValue, return_value
from .answer import Inference
from .figures import Figures, figures_of
from .question import Question, mapped

__all__ = ["exact"]


def exact(question: Question) -> Inference:
    """Every figure by elimination."""
    if not isinstance(question.target, CollapsedModel):  # no latents at all
        return _without_latents(question)
    posterior = ExactPosterior(question.target, question.observed)
    generator = torch.Generator().manual_seed(question.seed)
    value = posterior.log_evidence
    none = question.observed.new_zeros(1, 0)
    possible = value > -math.inf
    rows = posterior.sample(question.num_particles, generator=generator)
    weights = rows.new_full((len(rows),), 0.0 if possible else -math.inf)
    particles = Particles.from_draws(
        rows, weights, latent_columns(question.model.layout)
    )
    answer = _Exact(question.model, posterior, particles, question.observed)
    senseless: tuple[Caution, ...] = ()
    if not bool(question.target.has_meaning(none, question.observed).all()):
        senseless = (
            Caution(
                "some values of the latents give a distribution a parameter without "
                "meaning",
                "they weigh 0, as if the program excluded them",
                "Check that this is meant, an index outside a vector say",
            ),
        )
    impossible = Caution(
        "the data have probability 0 under the program",
        "no value of the latents explains them, so there is no posterior",
        "Check the observations and the program",
    )
    return question.answered(
        "exact",
        "all latents are discrete: summed out exactly",
        particles,
        value,
        0.0 if possible else math.nan,
        answer.latents() if possible else {},
        answer.returned() if possible else None,
        (*senseless, *(() if possible else (impossible,))),
        is_trusted=possible,
    )


def _without_latents(question: Question) -> Inference:
    """The likelihood of a program without latents."""
    none = question.observed.new_zeros(1, 0)
    value = float(question.target.log_joint(none, question.observed))
    particles = Particles.from_draws(none, question.observed.new_zeros(1), ())
    return question.answered(
        "exact",
        "the program has no latents",
        particles,
        value,
        0.0,
        {},
        question.returned(particles, None),
        (),
        is_trusted=True,
    )


@dataclass(frozen=True, eq=False)
class _Exact:
    """Figures of an exact posterior; of what reads too many latents from its draws."""

    model: Model
    posterior: ExactPosterior
    particles: Particles
    observed: Tensor

    def latents(self) -> dict[str, Figures]:
        found = {}
        for variable in self.model.layout.latents:
            rows, probabilities = self.posterior.joint([variable.name])
            kind, categories = kind_of(self.model, variable.name)
            found[variable.label] = figures_of(
                rows[:, variable.start],
                probabilities.log(),
                mc_error=0.0,
                kind=kind,
                categories=categories,
            )
        return found

    def returned(self) -> Any:
        value = return_value(self.model.graph, self.model.layout)
        if value is None:
            return None
        return mapped(value.value, lambda leaf: self._figures(value, leaf))

    def _figures(self, value: ReturnValue, leaf: Leaf) -> Figures:
        names = sorted(leaf.reads & set(self.posterior.collapsed.tables.discrete))
        error: float | None = 0.0
        if self.posterior.is_small(names):
            rows, probabilities = self.posterior.joint(names)
            weights = probabilities.log()
        else:
            rows, weights, error = (
                self.particles.latents,
                self.particles.log_weights,
                None,
            )
        columns = value.columns(rows, self.observed)
        return figures_of(
            columns[:, leaf.column],
            weights,
            mc_error=error,
            kind=leaf.kind,
            categories=leaf.categories,
        )

"""This file answers exactly where all latents are discrete, or there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from .figures import Figures, exact_figures, figures_of
from .question import Question, mapped

__all__ = ["exact"]


def exact(question: Question) -> Inference:
    """Every figure by elimination; particles are drawn when they are asked for."""
    if not isinstance(question.target, CollapsedModel):  # no latents at all
        return _without_latents(question)
    posterior = ExactPosterior(question.target, question.observed)
    value = posterior.log_evidence
    possible = value > -math.inf
    answer = _Exact(question, posterior)
    none = question.observed.new_zeros(1, 0)
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
        lambda: answer.particles,
        value,
        0.0 if possible else math.nan,
        answer.latents() if possible else {},
        answer.returned() if possible else None,
        (*senseless, *(() if possible else (impossible,))),
        is_trusted=possible,
        num_particles=question.num_particles,
        ess=float(question.num_particles) if possible else 0.0,
    )


def _without_latents(question: Question) -> Inference:
    """The likelihood of a program without latents."""
    none = question.observed.new_zeros(1, 0)
    value = float(question.target.log_joint(none, question.observed))
    particles = Particles.from_draws(none, question.observed.new_zeros(1), ())
    return question.answered(
        "exact",
        "the program has no latents",
        lambda: particles,
        value,
        0.0,
        {},
        question.returned(particles, None),
        (),
        is_trusted=True,
        num_particles=1,
        ess=1.0,
    )


@dataclass(frozen=True, eq=False)
class _Exact:
    """Figures of an exact posterior; of what reads too many latents from its draws."""

    question: Question
    posterior: ExactPosterior

    @cached_property
    def particles(self) -> Particles:
        """Exact draws; they weigh nothing where the data are impossible."""
        question = self.question
        generator = torch.Generator().manual_seed(question.seed)
        rows = self.posterior.sample(question.num_particles, generator=generator)
        possible = self.posterior.log_evidence > -math.inf
        weights = rows.new_full((len(rows),), 0.0 if possible else -math.inf)
        return Particles.from_draws(rows, weights, latent_columns(self.model.layout))

    @property
    def model(self) -> Model:
        return self.question.model

    @cached_property
    def _every(self) -> Tensor:
        return self.posterior.every_value()

    def latents(self) -> dict[str, Figures]:
        found = {}
        for variable in self.model.layout.latents:
            chances = self.posterior.marginal(variable.name)
            kind, categories = kind_of(self.model, variable.name)
            found[variable.label] = exact_figures(
                self._every[: len(chances), variable.start].tolist(),
                chances.tolist(),
                kind=kind,
                categories=categories,
            )
        return found

    def returned(self) -> Any:
        value = return_value(self.model.lowered)
        if value is None:
            return None
        observed = self.question.observed
        at_values = value.columns(self._every, observed)
        known = set(self.posterior.collapsed.tables.discrete)

        def figures(leaf: Leaf) -> Figures:
            names = sorted(leaf.reads & known)
            if len(names) > 1:
                return self._of_several(value, leaf, names)
            chances = [1.0]
            if names:
                chances = self.posterior.marginal(names[0]).tolist()
            return exact_figures(
                at_values[: len(chances), leaf.column].tolist(),
                chances,
                kind=leaf.kind,
                categories=leaf.categories,
            )

        return mapped(value.value, figures)

    def _of_several(
        self, value: ReturnValue, leaf: Leaf, names: Sequence[str]
    ) -> Figures:
        """Return the figures of a leaf from a joint marginal, or from the particles."""
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
        columns = value.columns(rows, self.question.observed)
        return figures_of(
            columns[:, leaf.column],
            weights,
            mc_error=error,
            kind=leaf.kind,
            categories=leaf.categories,
        )

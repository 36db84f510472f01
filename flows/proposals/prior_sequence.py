r"""This file draws a program step by step, for sequential Monte Carlo from its prior.

Step t belongs to the t-th observe. It draws the latents that the observe depends on and
that no earlier one did, each given its parents, and weighs by the observe's term,

    w_t = p(x_t | latents so far):

the bootstrap filter of a program. Latents that no observe depends on are drawn with the
last step.

References:
    Gordon, Salmond, Smith (1993), Novel approach to nonlinear/non-Gaussian Bayesian
    state estimation, IEE Proceedings F 140(2).
    Wood, van de Meent, Mansinghka (2014), A new approach to probabilistic programming
    inference, https://arxiv.org/abs/1507.00996
"""

from dataclasses import dataclass

import torch

from daphne_bridge.graph.graph import Graph

from ..inference.shapes import Latents
from ..inference.smc.sequence import Step
from ..model.model import Model
from ..model.shapes import ObservedRow

__all__ = ["PriorSequence"]


@dataclass(frozen=True, slots=True, eq=False)
class PriorSequence:
    """A program's latents, drawn when an observe needs them.

    Attributes:
        model: The model.
        observed: The observed values.
        steps: For each step the latents that it draws, and its observe if it has one.
    """

    model: Model
    observed: ObservedRow
    steps: tuple[tuple[tuple[str, ...], str | None], ...]

    @classmethod
    def from_model(cls, model: Model, observed: ObservedRow) -> "PriorSequence":
        """Return the sequence of a model and its data."""
        return cls(model, observed, _steps(model.graph))

    @property
    def num_steps(self) -> int:
        """Return the number of observed nodes, 1 if there is none."""
        return len(self.steps)

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return draws of what the first observe needs."""
        shape = (num_particles, self.model.layout.latent_dim)
        return self.extend(self.observed.new_zeros(shape), 0, generator=generator)

    def extend(self, state: Latents, step: int, *, generator: torch.Generator) -> Step:
        """Return the particles with what one more observe needs, and its term."""
        names, observe = self.steps[step]
        if names:
            state = self.model.sample_more(
                names, state, self.observed, generator=generator
            )
        if observe is None:
            return Step(state, state.new_zeros(state.shape[0]))
        terms = self.model.log_likelihood_of([observe], state, self.observed)
        return Step(state, terms[:, 0])

    def latents(self, state: Latents) -> Latents:
        """Return all latents of particles that have taken every step."""
        return state


def _steps(graph: Graph) -> tuple[tuple[tuple[str, ...], str | None], ...]:
    """Return, for each observe, the latents that it is the first to depend on."""
    left = dict.fromkeys(graph.latents)
    steps: list[tuple[tuple[str, ...], str | None]] = []
    for observe in graph.observed:
        found: set[str] = set()
        stack = [observe]
        while stack:
            for parent in graph.parents(stack.pop()):
                if parent in left and parent not in found:
                    found.add(parent)
                    stack.append(parent)
        steps.append((tuple(name for name in left if name in found), observe))
        for name in found:
            del left[name]
    if not steps:
        return ((tuple(left), None),)
    needed, last = steps[-1]
    steps[-1] = ((*needed, *left), last)
    return tuple(steps)

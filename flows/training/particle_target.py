"""This file makes a target of one data set from weighted particles of its posterior.

Draws are rows of the particles, picked by their weights, each with the same data; the
density is the model's. The symmetric objective of such a target is Jeffreys divergence
between flow and posterior at these data, up to what the particles get wrong:

    J = (KL(p(. | x) || q) + KL(q || p(. | x))) / 2,

the first by the particles, the second by draws of the flow. log p(x) cancels in J.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.draws import Draws
from .batches import AroundTarget, TargetModel

__all__ = ["ParticleTarget"]


@dataclass(frozen=True, slots=True, eq=False)
class ParticleTarget(AroundTarget):
    """A model at one data set, with particles in place of its joint draws.

    Attributes:
        model: Its density in nats.
        latents: Natural values, one particle in each row.
        weights: Of the particles, not negative, some positive.
        observed: The data.
    """

    model: TargetModel
    latents: Float[Tensor, "particle latent"]
    weights: Float[Tensor, " particle"]
    observed: Float[Tensor, " observed"]

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Particles picked by their weights, with replacement."""
        rows = torch.multinomial(
            self.weights, num, replacement=True, generator=generator
        )
        return Draws(self.latents[rows], self.observed.expand(num, -1))

    def log_joint(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch observed"],  # noqa: ARG002 (always the same)
        /,
    ) -> Float[Tensor, "*batch"]:
        """Log joint density of natural values and the data, in nats."""
        return self.model.log_joint(latents, self.observed)

    def log_joint_free(
        self,
        free: Float[Tensor, "*batch free"],
        observed: Float[Tensor, "*batch observed"],  # noqa: ARG002 (always the same)
    ) -> Float[Tensor, "*batch"]:
        """The same in free coordinates, in the precision of the data."""
        return self.model.log_joint_free(free.to(self.observed), self.observed)

"""This file is a model whose data are known: draws of its prior beside its own data.

What is trained on it learns the posterior of these data alone. Draws of the prior say
where latents lie and how they are scaled, but are none of the posterior, so that of the
objectives only those are left that need draws of the flow alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.draws import Draws
from .batches import TargetModel

__all__ = ["OneDataSet"]


@dataclass(frozen=True, slots=True, eq=False)
class OneDataSet:
    """A `batches.TargetModel` of one data set.

    Args:
        model: the target.
        observed: its data.
    """

    model: TargetModel
    observed: Float[Tensor, " observed"]

    @property
    def has_density(self) -> bool:
        """Whether `log_joint` can be computed."""
        return self.model.has_density

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Draws of the prior, each beside the data."""
        latents = self.model.sample(num, generator=generator).latents
        return Draws(latents, self.observed.expand(num, -1))

    def log_joint(self, latents: Tensor, observed: Tensor, /) -> Tensor:
        """Log joint density of natural values, in nats."""
        return self.model.log_joint(latents, observed)

    def log_joint_free(self, free: Tensor, observed: Tensor) -> Tensor:
        """Log joint density in free coordinates, in nats."""
        return self.model.log_joint_free(free, observed)

    def unconstrain(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Free coordinates, with log|det|."""
        return self.model.unconstrain(latents)

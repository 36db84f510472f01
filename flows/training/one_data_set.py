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
from .batches import AroundTarget, TargetModel

__all__ = ["OneDataSet"]


@dataclass(frozen=True, slots=True, eq=False)
class OneDataSet(AroundTarget):
    """A target of one data set.

    Args:
        model: the target.
        observed: its data.
    """

    model: TargetModel
    observed: Float[Tensor, " observed"]

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Draws of the prior, each beside the data."""
        latents = self.model.sample(num, generator=generator).latents
        return Draws(latents, self.observed.expand(num, -1))

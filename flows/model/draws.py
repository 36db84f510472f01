"""This file owns joint draws of a model: the one value that carries them."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["Draws"]


@dataclass(frozen=True, slots=True)
class Draws:
    """Joint draws of a model.

    Attributes:
        latents: Natural values, one row per draw.
        observed: Observed values, one row per draw.
    """

    latents: Float[Tensor, "num latent"]
    observed: Float[Tensor, "num observed"]

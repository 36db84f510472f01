"""This file names the tensors of particles, by their shapes."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["Latents", "LogProb", "Nuisance", "Places", "State"]

# Natural values of the latents.
Latents = Float[Tensor, "particle latent"]
# Nuisances of a flow.
Nuisance = Float[Tensor, "particle nuisance"]
# Coordinates that lie between a proposal and a target.
Places = Float[Tensor, "particle coordinate"]
# What a sequence carries of its particles from step to step.
State = Float[Tensor, "particle state"]
# Log densities in nats.
LogProb = Float[Tensor, " particle"]

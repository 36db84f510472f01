"""This file names the tensors of particles, by their shapes."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["Base", "Latents", "LogProb", "Nuisance", "Places", "State"]

Latents = Float[Tensor, "particle latent"]
"""Natural values of the latents."""
Nuisance = Float[Tensor, "particle nuisance"]
"""Nuisances of a flow."""
Base = Float[Tensor, "particle base"]
"""Points that a proposal pushes forward, N(0, I)."""
Places = Float[Tensor, "particle coordinate"]
"""Coordinates that lie between a proposal and a target."""
State = Float[Tensor, "particle state"]
"""What a sequence carries of its particles from step to step."""
LogProb = Float[Tensor, " particle"]
"""Log densities in nats."""

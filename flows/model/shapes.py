"""This file names the tensors that go into a model and come out of it, by their shapes.

Batches of latents and of observed values are broadcast against each other.
"""

from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Free",
    "LatentRows",
    "Latents",
    "LogDensity",
    "LogDet",
    "LogTerms",
    "Observed",
    "ObservedRow",
]

# Natural values of all latents.
Latents = Float[Tensor, "*batch latent"]
# Latents in free coordinates.
Free = Float[Tensor, "*batch free"]
# Log|det| of the map between the two, in nats.
LogDet = Float[Tensor, "*batch"]
# Observed values.
Observed = Float[Tensor, "*batch2 observed"]
# Log densities in nats.
LogDensity = Float[Tensor, "*batch3"]
# Log densities of nodes, in nats.
LogTerms = Float[Tensor, "*batch3 node"]
# Natural values, one row each.
LatentRows = Float[Tensor, "row latent"]
# One row of observed values.
ObservedRow = Float[Tensor, " observed"]

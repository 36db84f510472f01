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

Latents = Float[Tensor, "*batch latent"]
"""Natural values of all latents."""
Free = Float[Tensor, "*batch free"]
"""Latents in free coordinates."""
LogDet = Float[Tensor, "*batch"]
"""Log|det| of the map between the two, in nats."""
Observed = Float[Tensor, "*batch2 observed"]
"""Observed values."""
LogDensity = Float[Tensor, "*batch3"]
"""Log densities in nats."""
LogTerms = Float[Tensor, "*batch3 node"]
"""Log densities of nodes, in nats."""
LatentRows = Float[Tensor, "row latent"]
"""Natural values, one row each."""
ObservedRow = Float[Tensor, " observed"]
"""One row of observed values."""

"""This file names the tensors that go into and come out of a flow, by their shapes."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["Base", "Free", "LogProb", "LogProbPerNode", "Nuisance", "Observed", "Row"]

Base = Float[Tensor, "batch state"]
"""Base points, standard normal."""
Free = Float[Tensor, "batch free"]
"""Latents in free coordinates."""
Nuisance = Float[Tensor, "batch nuisance"]
"""Nuisance columns, block by block in sampling order."""
Observed = Float[Tensor, "batch observed"]
"""Observed values."""
Row = Float[Tensor, " batch"]
"""One number for each row."""
LogProb = Float[Tensor, " batch"]
"""Log densities in nats."""
LogProbPerNode = Float[Tensor, "batch node"]
"""Conditional log densities of the nodes, in sampling order, in nats."""

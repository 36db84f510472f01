"""This file names the tensors that go into and come out of a flow, by their shapes."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["Base", "Free", "LogProb", "LogProbPerNode", "Nuisance", "Observed", "Row"]

# Base points, standard normal.
Base = Float[Tensor, "batch state"]
# Latents in free coordinates.
Free = Float[Tensor, "batch free"]
# Nuisance columns, block by block in sampling order.
Nuisance = Float[Tensor, "batch nuisance"]
# Observed values.
Observed = Float[Tensor, "batch observed"]
# One number for each row.
Row = Float[Tensor, " batch"]
# Log densities in nats.
LogProb = Row
# Conditional log densities of the nodes, in sampling order, in nats.
LogProbPerNode = Float[Tensor, "batch node"]

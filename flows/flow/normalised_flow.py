"""This file is what flows share that normalise columns and push forward a base.

A kind derives from `NormalisedFlow` and adds `from_base`, `log_prob_per_node` and
`rsample_remaining` of `protocol.Flow`.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .factor_normalisation import FactorNormalisation
from .normalisation import Normalisation
from .protocol import FlowDraw
from .scaling import Scaling
from .shapes import Base, Free, LogProb, LogProbPerNode, Nuisance, Observed
from .state_columns import StateColumns
from .structure import Structure

__all__ = ["NormalisedFlow"]


class NormalisedFlow(nn.Module, ABC):
    """Most of `protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: what the kind is built with.
        everywhere: see `Normalisation`.
    """

    def __init__(
        self, structure: Structure, config: Any, *, everywhere: bool = False
    ) -> None:
        super().__init__()
        self.structure = structure
        self.config = config
        self.normalisation: Scaling = (
            FactorNormalisation(structure)
            if structure.factors
            else Normalisation(structure, everywhere=everywhere)
        )
        self.columns = StateColumns(structure)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its densities."""
        return self.normalisation.shift.dtype

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.normalisation.shift.device

    def fit_normalisation(
        self,
        free: Float[Tensor, "draw free"],
        observed: Float[Tensor, "draw observed"],
    ) -> None:
        """Fits the normalisation to joint draws."""
        self.normalisation.fit(free, observed)

    def sample_base(
        self, num: int, *, generator: torch.Generator | None = None
    ) -> Base:
        """Standard normal base points, in the flow's precision and on its device."""
        like = self.normalisation.shift
        return self.columns.sample_base(num, like, generator=generator)

    def rsample_and_log_prob(
        self, observed: Observed, *, generator: torch.Generator | None = None
    ) -> FlowDraw:
        """One draw per row with its log density; carries gradients."""
        base = self.sample_base(observed.shape[0], generator=generator)
        return self.from_base(base, observed)

    @abstractmethod
    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""

    def log_prob(self, free: Free, nuisances: Nuisance, observed: Observed) -> LogProb:
        """Log densities log q(free, nuisances | observed), in nats."""
        return self.log_prob_per_node(free, nuisances, observed).sum(-1)

    @abstractmethod
    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""

"""This file is what flows share that add latents to those of an inner flow.

In sampling order the inner flow's latents come first, each with its nuisances, then the
others, each with one base point of its own.
"""

from abc import ABC, abstractmethod
from operator import attrgetter
from typing import Any

import torch
from torch import Generator, Tensor

from .protocol import Flow, FlowDraw
from .shapes import Base, Free, LogProb, LogProbPerNode, Nuisance, Observed

__all__ = ["Completed"]


def _of_inner(name: str) -> Any:
    """Return the property of this name of the inner flow."""
    return property(attrgetter(f"inner.{name}"))


class Completed(ABC):
    """Most of `protocol.Flow`, of a flow around one of fewer latents.

    Attributes:
        inner: The flow of fewer latents, in columns of its own.
    """

    inner: Flow

    kind = _of_inner("kind")
    config = _of_inner("config")
    dtype = _of_inner("dtype")
    device = _of_inner("device")
    is_exact = _of_inner("is_exact")

    @abstractmethod
    def around(self, inner: Flow) -> Flow:
        """Return the same around another version of the inner flow."""

    @property
    @abstractmethod
    def num_added(self) -> int:
        """How many latents are added."""

    @abstractmethod
    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""

    @abstractmethod
    def _around(self, drawn: FlowDraw, base: Tensor, observed: Observed) -> FlowDraw:
        """Draws of the inner flow with the others drawn from base points."""

    def log_prob(self, free: Free, nuisances: Nuisance, observed: Observed) -> LogProb:
        """Log densities log q(free, nuisances | observed), in nats."""
        return self.log_prob_per_node(free, nuisances, observed).sum(-1)

    def sample_base(self, num: int, *, generator: Generator | None = None) -> Base:
        """Standard normal base points, in the flow's precision and on its device."""
        inner = self.inner.sample_base(num, generator=generator)
        shape = (num, self.num_added)
        noise = torch.randn(shape, generator=generator, dtype=inner.dtype)
        return torch.cat([inner, noise.to(inner)], -1)

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the density there."""
        width = self.inner.structure.state_dim
        drawn = self.inner.from_base(base[:, :width], observed)
        return self._around(drawn, base[:, width:], observed)

    def rsample_and_log_prob(
        self, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """One draw per row with its density."""
        base = self.sample_base(len(observed), generator=generator)
        return self.from_base(base, observed)

"""This file is what flows share that add latents to those of an inner flow.

In sampling order the inner flow's latents come first, each with its nuisances, then the
others, each with one base point of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from .protocol import Flow, FlowDraw, Known
from .shapes import Base, Free, LogProb, LogProbPerNode, Nuisance, Observed
from .structure import Structure

__all__ = ["Completed", "parted"]

_OWN = "heads."
"""Before the names of tensors that are not the inner flow's."""
_NONE = nn.Module()


def _of_inner(name: str) -> Any:
    """Return the property of this name of the inner flow."""
    return property(attrgetter(f"inner.{name}"))


class Completed(ABC):
    """Most of `protocol.Flow`, of a flow around one of fewer latents.

    Attributes:
        inner: The flow of fewer latents, in columns of its own.
        structure: Of all latents, in the model's columns.
    """

    inner: Flow
    structure: Structure

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

    @property
    @abstractmethod
    def _kept(self) -> Tensor:
        """Free columns of the inner flow's latents, in its order."""

    @abstractmethod
    def _around(
        self,
        drawn: FlowDraw,
        base: Tensor,
        observed: Observed,
        known: Known | None = None,
    ) -> FlowDraw:
        """Draws of the inner flow with the others drawn from base points.

        Args:
            drawn: Of the inner flow.
            base: A point for each latent that is added.
            observed: Observed values.
            known: Latents that keep their values.
        """

    @property
    def _own(self) -> nn.Module:
        """What is learned or fitted beside the inner flow."""
        return _NONE

    # -------------------------------------------------------------- parameters

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the inner flow, and its own with `heads.` before them."""
        yield from self.inner.named_parameters()
        yield from self._own.named_parameters(_OWN.removesuffix("."))

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Those of the inner flow, and its own with `heads.` before them."""
        yield from self.inner.named_modules()
        yield from self._own.named_modules(prefix=_OWN.removesuffix("."))

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the inner flow, and its own."""
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, Any]:
        """All tensors by name."""
        return {**self.inner.state_dict(), **self._own.state_dict(prefix=_OWN)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes tensors over."""
        inner, own = parted(state_dict)
        self._own.load_state_dict(own)
        return self.inner.load_state_dict(inner)

    def to(self, place: Any) -> Self:
        """The flow itself, moved to a device or into a precision."""
        self.inner.to(place)
        self._own.to(place)
        return self

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits the inner flow's normalisation to joint draws."""
        self.inner.fit_normalisation(free[:, self._kept], observed)

    # -------------------------------------------------------------- densities and draws

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

    def rsample_remaining(
        self, known: Known, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """Draws of all other latents given some; see `protocol.Flow`."""
        self.structure.ancestral(known.nodes)
        names = self.inner.structure.names
        given = [name for name in known.nodes if name in names]
        if given:
            inner = Known(known.free[:, self._kept], known.nuisances, given)
            drawn = self.inner.rsample_remaining(inner, observed, generator=generator)
        else:
            drawn = self.inner.rsample_and_log_prob(observed, generator=generator)
        shape = (len(known.free), self.num_added)
        base = torch.randn(shape, generator=generator, dtype=torch.float64)
        return self._around(drawn, base, observed, known)


def parted(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the inner flow, and the others by their own names."""
    inner = {n: each for n, each in tensors.items() if not n.startswith(_OWN)}
    own = {
        name.removeprefix(_OWN): each
        for name, each in tensors.items()
        if name.startswith(_OWN)
    }
    return inner, own

r"""This file is a chain of layers: scale and shift, then planar or radial ones.

    z_0 = shift + exp(log_scale) e,      z_k = f_k(z_{k-1}), k = 1 ... length.

Scale and shift make a diagonal normal of the base, as in the reference; all numbers of
the chain may differ from row to row.

References:
    Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from .planar import Planar
from .radial import Radial

__all__ = ["LAYERS", "Chain", "Layer"]


class Layer(Protocol):
    """An invertible map, given numbers; points and numbers broadcast."""

    def width(self, size: int) -> int:
        """How many numbers it has in so many dimensions."""

    def first(
        self, size: int, generator: torch.Generator | None
    ) -> Float[Tensor, " number"]:
        """Numbers at first."""

    def parts(
        self, size: int, numbers: Float[Tensor, "*batch number"]
    ) -> tuple[Tensor, ...]:
        """What numbers mean; each is as many tensors, with or without a last axis."""

    def to_latent(
        self, base: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """Where base points go, with |det|; carries gradients."""

    def to_base(
        self, latent: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """What `to_latent` carries here, with |det| of that way; as `to_latent`."""


LAYERS: Mapping[str, Layer] = MappingProxyType({"planar": Planar(), "radial": Radial()})
"""By the name that a configuration uses."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Scale and shift, then layers; as `Layer`.

    Example:
        >>> chain = Chain("planar", 3)
        >>> numbers = chain.first(2, torch.Generator().manual_seed(0)).double()
        >>> points = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
        >>> there, log_det = chain.to_latent(points, numbers.expand(1, -1))
        >>> back, negative = chain.to_base(there, numbers.expand(1, -1))
        >>> bool((back - points).abs().max() < 1e-12), float(log_det + negative) < 1e-12
        (True, True)
    """

    transform: str
    length: int

    def width(self, size: int) -> int:
        """How many numbers a node of so many columns needs."""
        return 2 * size + self.length * LAYERS[self.transform].width(size)

    def first(
        self, size: int, generator: torch.Generator | None
    ) -> Float[Tensor, " number"]:
        """Numbers at first: nearly the identity."""
        layer = LAYERS[self.transform]
        layers = [layer.first(size, generator) for _ in range(self.length)]
        return torch.cat([torch.zeros(2 * size), *layers])

    def to_latent(
        self,
        base: Float[Tensor, "*batch size"],
        numbers: Float[Tensor, "*batch number"],
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """Where base points go, with log|det|; carries gradients."""
        shift, log_scale, layers = self._split(base.shape[-1], numbers)
        state, log_dets = shift + log_scale.exp() * base, [log_scale.sum(-1)]
        for parts in layers:
            state, det = LAYERS[self.transform].to_latent(state, parts)
            log_dets.append(det.log())
        return state, torch.stack(log_dets).sum(0)

    def to_base(
        self,
        latent: Float[Tensor, "*batch size"],
        numbers: Float[Tensor, "*batch number"],
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """What `to_latent` carries here, with log|det| of this way; as `to_latent`."""
        shift, log_scale, layers = self._split(latent.shape[-1], numbers)
        state, log_dets = latent, [log_scale.sum(-1)]
        for parts in reversed(layers):
            state, det = LAYERS[self.transform].to_base(state, parts)
            log_dets.append(det.log())
        return (state - shift) * (-log_scale).exp(), -torch.stack(log_dets).sum(0)

    def _split(
        self, size: int, numbers: Tensor
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, ...]]]:
        """Shift, log scale, and the parts of each layer, made of all layers at once."""
        layer = LAYERS[self.transform]
        shift, log_scale, rest = torch.split(
            numbers, [size, size, self.length * layer.width(size)], -1
        )
        if not self.length:
            return shift, log_scale, []
        rest = rest.reshape(*rest.shape[:-1], self.length, -1).movedim(-2, 0)
        parts = [part.unbind(0) for part in layer.parts(size, rest)]
        return shift, log_scale, list(zip(*parts, strict=True))

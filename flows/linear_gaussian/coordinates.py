"""This file maps some latents of a model to free coordinates and back.

The others are 0 meanwhile: these maps do not depend on them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..model.layout import Layout
from ..model.model import Model
from ..model.shapes import Free, Latents, LogDet

__all__ = ["SomeLatents"]


@dataclass(frozen=True, eq=False)
class SomeLatents:
    """Latents of a model, real numbers being left out.

    Attributes:
        model: With all latents.
        names: Of those that count.
    """

    model: Model
    names: Collection[str]

    @cached_property
    def layout(self) -> Layout:
        """Their columns, and those of the observed nodes."""
        own = [v for v in self.model.layout.latents if v.name in self.names]
        return self.model.layout.keeping({v.name: v.free_size for v in own})

    @cached_property
    def columns(self) -> Tensor:
        """Of their natural values among all."""
        return self._of([v.columns for v in self.model.layout.latents])

    @cached_property
    def _free(self) -> Tensor:
        return self._of([v.free_columns for v in self.model.layout.latents])

    @cached_property
    def _terms(self) -> Tensor:
        return self._of(
            [range(n, n + 1) for n in range(len(self.model.layout.latents))]
        )

    def _of(self, columns: list[range]) -> Tensor:
        pairs = zip(self.model.layout.latents, columns, strict=True)
        found = [c for v, own in pairs if v.name in self.names for c in own]
        return torch.tensor(found, dtype=torch.long)

    def filled(self, latents: Latents) -> Latents:
        """Return natural values of all latents, 0 for those that do not count."""
        width = self.model.layout.latent_dim
        found = latents.new_zeros(*latents.shape[:-1], width)
        return found.index_copy(-1, self.columns, latents)

    # -------------------------------------------------------------- maps

    def constrain(self, free: Free) -> tuple[Latents, LogDet]:
        """Return the natural values of free coordinates, and log|det dz/df|."""
        latents, log_det = self.model.constrain(self._filled(free))
        return latents[..., self.columns], log_det

    def constrain_terms(self, free: Free) -> Float[Tensor, "*batch node"]:
        """Return the summands of log|det dz/df|, one per latent."""
        return self.model.constrain_terms(self._filled(free))[..., self._terms]

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|."""
        free, log_det = self.model.unconstrain(self.filled(latents))
        return free[..., self._free], log_det

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same."""
        return self.model.at_edge(self._filled(free))[..., self._free]

    def _filled(self, free: Free) -> Free:
        width = self.model.layout.free_dim
        found = free.new_zeros(*free.shape[:-1], width)
        return found.index_copy(-1, self._free, free)

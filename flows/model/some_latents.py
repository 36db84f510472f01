"""This file maps some latents of a model to free coordinates and back.

The others have the free coordinate 0 meanwhile: these maps do not depend on them.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .layout import Layout
from .lowered_graph import supports_of
from .model import Model
from .shapes import Free, Latents, LogDet

__all__ = ["SomeLatents"]

_REAL = {"real", "real vector"}


@dataclass(frozen=True, eq=False)
class SomeLatents:
    """Latents of a model, others being left out; see `in_free_coordinates.FreeMap`.

    Attributes:
        model: With all latents.
        left_out: Names of the others.
    """

    model: Model
    left_out: Collection[str]

    @cached_property
    def layout(self) -> Layout:
        """Their columns, and those of the observed nodes."""
        return self.model.layout.without(self.left_out)

    @cached_property
    def columns(self) -> Tensor:
        """Of their natural values among all."""
        return self._of([v.columns for v in self.model.layout.latents])

    @cached_property
    def free_columns(self) -> Tensor:
        """Of their free coordinates among all."""
        return self._of([v.free_columns for v in self.model.layout.latents])

    @cached_property
    def _terms(self) -> Tensor:
        return self._of(
            [range(n, n + 1) for n in range(len(self.model.layout.latents))]
        )

    def _of(self, columns: list[range]) -> Tensor:
        pairs = zip(self.model.layout.latents, columns, strict=True)
        found = [c for v, own in pairs if v.name not in self.left_out for c in own]
        return torch.tensor(found, dtype=torch.long)

    def filled(self, latents: Latents) -> Latents:
        """Return values of all latents; of the others 0, or nan where that is none."""
        shape = (*latents.shape[:-1], self.model.layout.latent_dim)
        elsewhere = self._elsewhere.to(latents).expand(shape)
        return elsewhere.index_copy(-1, self.columns, latents)

    def filled_free(self, free: Free) -> Free:
        """Return free coordinates of all latents, 0 for the others."""
        found = free.new_zeros(*free.shape[:-1], self.model.layout.free_dim)
        return found.index_copy(-1, self.free_columns, free)

    @cached_property
    def _elsewhere(self) -> Float[Tensor, " latent"]:
        found: list[float] = []
        for entry in self.model.lowered.latents:
            is_real = {support for support, _ in supports_of(entry)} <= _REAL
            found += [0.0 if is_real else math.nan] * len(entry.slots)
        return torch.tensor(found, dtype=torch.float64)

    # -------------------------------------------------------------- maps

    def constrain(self, free: Free) -> tuple[Latents, LogDet]:
        """Return the natural values of free coordinates, and log|det dz/df|."""
        latents, _ = self.model.constrain(self.filled_free(free))
        return latents[..., self.columns], self.log_det(free)

    def constrain_terms(self, free: Free) -> Float[Tensor, "*batch node"]:
        """Return the summands of log|det dz/df|, one per latent."""
        return self.model.constrain_terms(self.filled_free(free))[..., self._terms]

    def log_det(self, free: Free) -> LogDet:
        """Return log|det dz/df|."""
        return self.constrain_terms(free).sum(-1)

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|."""
        free = self.model.unconstrain(self.filled(latents))[0][..., self.free_columns]
        return free, self.log_det(free)

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same."""
        return self.model.at_edge(self.filled_free(free))[..., self.free_columns]

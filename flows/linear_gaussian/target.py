r"""This file is a model with its linear Gaussian latents integrated out.

Given the other latents c and the data x, those latents v (`factors.py`) are Gaussian,
so that at any v

    log p(c, x) = log p(c, v, x) - log N(v | c, x),

whose right side is computed at their mean, where it loses fewest digits and where its
slope in c needs no slope of the mean. It has the same methods as `Model` over c alone;
`complete` adds exact draws of v to rows of c. Weights p(c, x) / q(c | x) are those of
the full model averaged over v: these add no variance (Rao and Blackwell).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..model.layout import Layout
from ..model.marginal import MarginalModel
from ..model.model import Model
from ..model.shapes import (
    LatentRows,
    Latents,
    LogDensity,
    Observed,
    ObservedRow,
)
from ..model.some_latents import SomeLatents
from .part import Part

__all__ = ["GaussianMarginal", "WithoutGaussians"]


class Integrated(Protocol):
    """Nodes of a graph with some latents integrated out; see `part.Part`."""

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of these latents."""

    @property
    def num_entries(self) -> int:
        """How many numbers the matrices of one row hold."""

    def log_density(
        self, model: Model, filled: LatentRows, observed: Float[Tensor, "rows observed"]
    ) -> Float[Tensor, " row"]:
        """Return the log of the nodes' densities, integrated over these latents."""


@dataclass(frozen=True, eq=False)
class WithoutGaussians(MarginalModel):
    """The density p(other latents, observed) of a model.

    Attributes:
        model: The model, of continuous latents.
        whole: The latents that are integrated out, and the factors that have them.
        prior: The same of the latents' own factors, without those that are 1.
    """

    model: Model
    whole: Integrated
    prior: Integrated

    def forgiving(self) -> Self:
        """Return it of the forgiving model; see `Model.forgiving`."""
        return replace(self, model=self.model.forgiving())

    def has_meaning(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where every link function has a meaning.

        None of them depends on a Gaussian latent, but by the mean of a normal.
        """
        return self.model.has_meaning(self.coordinates.filled(latents), observed)

    # -------------------------------------------------------------- columns

    @property
    def integrated(self) -> tuple[str, ...]:
        """Names of the latents that are integrated out."""
        return self.whole.latents

    @cached_property
    def coordinates(self) -> SomeLatents:
        """Maps the other latents to the real line and back."""
        return SomeLatents(self.model, self.integrated)

    @property
    def layout(self) -> Layout:
        """Columns of the other latents, and of the observed nodes."""
        return self.coordinates.layout

    # -------------------------------------------------------------- densities

    def log_joint(self, latents: Latents, observed: Observed) -> LogDensity:
        """Return log p(latents, observed) in nats, the Gaussian latents integrated out.

        Args:
            latents: Natural values of the other latents.
            observed: Observed values; one row may serve all latents.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._log_density(self.whole, latents, observed)

    def log_prior(
        self, latents: Latents, observed: Observed | None = None
    ) -> LogDensity:
        """Return log p(latents), the Gaussian latents integrated out.

        Args:
            latents: Natural values of the other latents.
            observed: Data, which matters only where latents read observed nodes.
        """
        if observed is None:
            observed = self.model.observation(like=latents)
        found = self._log_density(self.prior, latents, observed)
        if not self.model.is_forgiving:
            return found
        # As for a model: what has no meaning is left to the likelihood.
        rows = latents.reshape(-1, latents.shape[-1])
        data = observed.reshape(-1, observed.shape[-1])[0]
        has_meaning = self.has_meaning(rows.detach(), data) & rows.isfinite().all(1)
        return torch.where(has_meaning.reshape(found.shape), found, 0.0)

    def _log_density(
        self, part: Integrated, latents: Latents, observed: Observed
    ) -> LogDensity:
        batch = np.broadcast_shapes(latents.shape[:-1], observed.shape[:-1])
        num = math.prod(batch)
        if not num:
            return latents.sum(-1).expand(batch)
        rows = latents.expand(*batch, -1).reshape(num, -1)
        data = observed.reshape(-1, observed.shape[-1])
        if len(data) > 1:
            data = observed.expand(*batch, -1).reshape(num, -1)
        found = part.log_density(self.model, self.coordinates.filled(rows), data)
        is_lost = torch.isnan(found) & ~torch.isnan(rows).any(-1)
        return torch.where(is_lost, -math.inf, found).reshape(batch)


@dataclass(frozen=True, eq=False)
class GaussianMarginal(WithoutGaussians):
    """That of a model with linear Gaussian latents, exact.

    Attributes:
        whole: Its Gaussian latents, and the factors that have them.
    """

    whole: Part

    def are_lost(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where scales are too small for the digits of many Gaussian latents."""
        filled = self.coordinates.filled(latents)
        return self.whole.are_lost(filled, observed.unsqueeze(0))

    def complete(
        self, latents: LatentRows, observed: ObservedRow, *, generator: Generator
    ) -> Float[Tensor, "row full"]:
        """Return rows of all latents: exact draws of the Gaussian ones added.

        Args:
            latents: Natural values of the other latents.
            observed: Observed values.
            generator: Source of the draws.
        """
        filled = self.coordinates.filled(latents)
        return self.whole.drawn(filled, observed.unsqueeze(0), generator=generator)

"""This file is what a model that leaves some latents out has of the one inside.

They are summed out (`flows.marginal`) or integrated out (`flows.linear_gaussian`).
Draws of the others are draws of all, of which theirs are kept.
"""

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .around import AroundModel
from .draws import Draws
from .in_free_coordinates import InFreeCoordinates
from .layout import Layout
from .shapes import Latents, LogDensity, Observed, ObservedRow

__all__ = ["MarginalModel"]


class MarginalModel(InFreeCoordinates, AroundModel):
    """Draws and the likelihood of a model with a `layout` of its own, and densities."""

    if TYPE_CHECKING:

        @property
        def layout(self) -> Layout: ...  # noqa: D102

        def log_prior(  # noqa: D102
            self, latents: Latents, observed: Observed | None = None
        ) -> LogDensity: ...

    @cached_property
    def kept(self) -> Tensor:
        """Columns of the latents that are kept, among those of all."""
        names = {variable.name for variable in self.layout.latents}
        own = [v.columns for v in self.model.layout.latents if v.name in names]
        return torch.tensor([c for columns in own for c in columns], dtype=torch.long)

    def log_likelihood_terms(
        self, latents: Latents, observed: Observed
    ) -> Float[Tensor, "*batch3 1"]:
        """Return the log likelihood as one term: observes share what is left out."""
        found = self.log_joint(latents, observed) - self.log_prior(latents, observed)
        return found.unsqueeze(-1)

    def sample(
        self, num: int, *, generator: Generator, dtype: torch.dtype | None = None
    ) -> Draws:
        """Return joint draws of the latents that are kept and the observed nodes."""
        draws = self.model.sample(num, generator=generator, dtype=dtype)
        return Draws(draws.latents[:, self.kept], draws.observed)

    def sample_latents(
        self,
        num: int,
        *,
        generator: Generator,
        observed: ObservedRow | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "num latent"]:
        """Return draws of the prior of the latents that are kept.

        A row is nan where a latent that is left out, drawn with it, has no meaning:
        `log_prior`, the density of the others, leaves it out too.
        """
        drawn = self.model.sample_latents(
            num, generator=generator, observed=observed, dtype=dtype
        )
        has_meaning = ~torch.isnan(drawn).any(1, keepdim=True)
        return torch.where(has_meaning, drawn[:, self.kept], math.nan)

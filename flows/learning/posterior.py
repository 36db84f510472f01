"""This file carries particles of parameters to their posterior.

The target is p(θ) Π_n p̂(x_n | θ) on the draws of the last round, exact where the
likelihood is; particles come from a Student's t around the top, and are tempered.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..inference.mixture import Mixture, MixtureProposal
from ..inference.smc.annealing import AnnealingReport, annealed_smc
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.coordinates import AnnealedTarget, FreeSpace, WatchedSpace
from ..model.coordinates import Coordinates
from ..model.in_free_coordinates import InFreeCoordinates
from ..model.layout import Layout
from .ascent import Round
from .errors import Errors
from .surface import Surface

__all__ = ["ParametersTarget", "tempered_parameters"]

_MOST_DRAWS = 2**12
"""Draws of all rows that the target holds."""
_AT_ONCE = 2**17
_CONFIG = AnnealingConfig(cess_fraction=0.5, most_moves=12)
"""The way from a Student's t to the posterior is short, and each move is dear."""


@dataclass(frozen=True, eq=False)
class ParametersTarget(InFreeCoordinates):
    """p(parameters, data) on fixed draws of the rows' latents.

    Attributes:
        surface: The likelihood on its draws.
    """

    surface: Surface

    @property
    def layout(self) -> Layout:
        """Columns of the parameters."""
        return self.surface.coordinates.prior.layout

    @property
    def coordinates(self) -> Coordinates:
        """Of the parameters' prior."""
        return self.surface.coordinates.prior.coordinates

    @property
    def observed(self) -> Float[Tensor, " observed"]:
        """No observed values: the data are those of the likelihood."""
        return self.surface.coordinates.prior.observation()

    def log_joint(
        self, latents: Float[Tensor, "particle p"], observed: Tensor
    ) -> Float[Tensor, " particle"]:
        """Return log p(θ) + Σ_n log p̂(x_n | θ) of particles; carries gradients."""
        likelihood, draws = self.surface.likelihood, self.surface.draws
        data = likelihood.data
        step = max(1, _AT_ONCE // (draws.num * len(data)))
        found = [
            likelihood.log_weights(part[:, None, None, :], data, draws)
            .logsumexp(-2)
            .sub(math.log(draws.num))
            .sum(-1)
            for part in torch.split(latents, step)
        ]
        prior = self.log_prior(latents, observed)
        return torch.where(prior > -torch.inf, prior + torch.cat(found), prior)

    def log_prior(
        self, latents: Float[Tensor, "particle p"], observed: Tensor
    ) -> Float[Tensor, " particle"]:
        """Return log p(θ) of particles."""
        return self.surface.coordinates.prior.log_joint(latents, observed)

    def sample_latents(
        self, num: int, *, generator: Generator, **options: Any
    ) -> Float[Tensor, "num p"]:
        """Return draws of the prior."""
        prior = self.surface.coordinates.prior
        return prior.sample_latents(num, generator=generator, **options)


def tempered_parameters(
    found: Round,
    errors: Errors,
    num_particles: int,
    *,
    seed: int,
    check: Callable[[], None],
) -> Iterator[AnnealingReport]:
    """Yield reports of particles on their way; the last one carries the result.

    Args:
        found: The top.
        errors: Its covariance.
        num_particles: Lines of particles.
        seed: Of every draw.
        check: Called often; raises if time is up.
    """
    surface = found.surface
    rows = len(surface.likelihood.data)
    target = ParametersTarget(surface.first(_MOST_DRAWS // rows))
    centre = surface.coordinates.centre + surface.coordinates.spread * found.place
    mixture = Mixture(
        centre.new_zeros(1), centre[None], torch.linalg.cholesky(errors.free)[None]
    )
    # Densities and maps are all that is asked of the target.
    moved_in = cast("AnnealedTarget", target)
    space = FreeSpace(moved_in, MixtureProposal(target, mixture), target.observed)
    return annealed_smc(
        WatchedSpace(space, check), num_particles, seed=seed, config=_CONFIG
    )

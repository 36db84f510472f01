r"""This file refits what a row's latents are drawn from to weighted draws of it.

Modes alone miss what is no mode: where a network saturates, a row's density has plains
and bends. Draws of the proposal around modes and of the prior are weighted, and

    q(f) = s_0 modes(f) + s_1 1/J Σ_j N(f; c_j, h² C) + s_2 prior(f),

c_j draws by their weights and C their covariance; s_1 and s_2 grow with the share of
the draws that has no effect, so that a row whose posterior is normal stays with modes.

References:
    Cappé, Guillin, Marin, Robert (2004), Population Monte Carlo, JCGS 13(4).
    West (1993), Approximating posterior distributions by mixtures, JRSS B 55(2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..marginal.target import FlowTarget
from ..model.standard_normal import standard_normal_log_prob

__all__ = ["CENTRES", "Mixed", "PriorOfRows", "Proposal", "refitted"]

CENTRES = 16
_PILOTS = (64, 256)
_OF_PRIOR = 0.2
"""Of the draws that a refit begins with."""
_MOST_NORMALS, _MOST_PRIOR = 0.8, 0.1

Free = Float[Tensor, "draw row free"]
LogDensity = Float[Tensor, "draw row"]


class Proposal(Protocol):
    """What the latents of each row are drawn from, in free coordinates."""

    def sample(self, num: int, *, generator: Generator) -> Free:
        """Return independent draws for each row."""

    def log_prob(self, free: Free) -> LogDensity:
        """Return the log density of draws."""


@dataclass(frozen=True, slots=True, eq=False)
class PriorOfRows:
    """The latents' prior, given the observed values of the first row.

    Attributes:
        target: Has the latents.
        observed: Of each row.
    """

    target: FlowTarget
    observed: Float[Tensor, "row observed"]

    def sample(self, num: int, *, generator: Generator) -> Free:
        """Return draws; nan where the prior has no meaning, which has no density."""
        first, rows = self.observed[0], len(self.observed)
        drawn = self.target.sample_latents(
            num * rows, generator=generator, observed=first
        )
        return self.target.unconstrain(drawn)[0].view(num, rows, -1)

    def log_prob(self, free: Free) -> LogDensity:
        """Return the log density of draws."""
        latents, log_det = self.target.constrain(free)
        found = self.target.log_prior(latents, self.observed[0]) + log_det
        return found.nan_to_num(-torch.inf, -torch.inf, -torch.inf)


@dataclass(frozen=True, slots=True, eq=False)
class _Normals:
    """As many normals of one covariance for each row, all of one share.

    Attributes:
        centres: Where they stand.
        root: Lower Cholesky factor of their covariance.
    """

    centres: Float[Tensor, "centre row free"]
    root: Float[Tensor, "row free free"]

    def sample(self, num: int, *, generator: Generator) -> Free:
        """Return independent draws for each row."""
        count, rows, size = self.centres.shape
        which = torch.randint(count, (num, rows), generator=generator)
        noise = torch.randn(num, rows, size, dtype=torch.float64, generator=generator)
        moved = (self.root @ noise.unsqueeze(-1)).squeeze(-1)
        return self.centres[which, torch.arange(rows)] + moved

    def log_prob(self, free: Free) -> LogDensity:
        """Return the log density of draws."""
        gaps = (free.unsqueeze(1) - self.centres).unsqueeze(-1)
        whitened = (torch.linalg.inv(self.root) @ gaps).squeeze(-1)
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found = standard_normal_log_prob(whitened).logsumexp(1) - log_det
        return found - math.log(len(self.centres))


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Proposals of which each has a share of every row.

    Attributes:
        parts: The proposals.
        shares: Of each of them, sums of 1.
    """

    parts: tuple[Proposal, ...]
    shares: Float[Tensor, "part row"]

    def sample(self, num: int, *, generator: Generator) -> Free:
        """Return independent draws for each row."""
        which = torch.multinomial(
            self.shares.T, num, replacement=True, generator=generator
        ).T.unsqueeze(-1)
        found = self.parts[0].sample(num, generator=generator)
        for number, part in enumerate(self.parts[1:], 1):
            drawn = part.sample(num, generator=generator)
            found = torch.where(which == number, drawn, found)
        return found

    def log_prob(self, free: Free) -> LogDensity:
        """Return the log density of draws."""
        each = torch.stack([part.log_prob(free) for part in self.parts])
        found = (each + self.shares.log().unsqueeze(1)).logsumexp(0)
        # A draw without meaning has no density of its own, and no weight.
        return torch.where(free.isnan().any(-1), 0.0, found)


def refitted(
    modes: Proposal,
    prior: Proposal,
    log_density: Callable[[Free], LogDensity],
    num: int,
    *,
    generator: Generator,
) -> Mixed:
    """Return the proposal that is fitted to weighted draws of two.

    Args:
        modes: Of each row.
        prior: Of the rows.
        log_density: Of each row's latents, up to a constant.
        num: How many draws it is for.
        generator: Source of draws.
    """
    num = min(max(num, _PILOTS[0]), _PILOTS[1])
    free = modes.sample(1, generator=generator)
    shares = free.new_tensor([1.0 - _OF_PRIOR, _OF_PRIOR])
    begun = Mixed((modes, prior), shares.unsqueeze(1).expand(2, free.shape[1]))
    free = begun.sample(num, generator=generator)
    log_weights = log_density(free) - begun.log_prob(free)
    log_weights = log_weights.nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    # A row without a density stays with its modes.
    is_empty = (log_weights == -torch.inf).all(0)
    weights = torch.where(is_empty, 0.0, log_weights).softmax(0)
    normals, ess = _normals(free.nan_to_num(0.0), weights, generator)
    idle = torch.where(is_empty, 0.0, 1.0 - ess / num)
    others = torch.stack([_MOST_NORMALS * idle, _MOST_PRIOR * idle])
    return Mixed(
        (modes, normals, prior), torch.cat([1.0 - others.sum(0)[None], others])
    )


def _normals(
    free: Free, weights: LogDensity, generator: Generator
) -> tuple[_Normals, Float[Tensor, " row"]]:
    """Return normals at draws by their weights, and the effective number of draws."""
    size = free.shape[-1]
    which = torch.multinomial(
        weights.T, CENTRES, replacement=True, generator=generator
    ).T
    centres = free[which, torch.arange(free.shape[1])]
    ess = 1.0 / weights.square().sum(0)
    gaps = free - torch.einsum("kr,kri->ri", weights, free)
    covariance = torch.einsum("kr,kri,krj->rij", weights, gaps, gaps)
    # Few effective draws know little of their covariance: all draws say the rest.
    whole = torch.einsum("kri,krj->rij", gaps, gaps) / len(free)
    narrow = CENTRES ** (-2.0 / (size + 4.0))
    covariance = narrow * (covariance + whole / ess[:, None, None])
    tiny = 1e-12 * torch.eye(size, dtype=free.dtype)
    root, _ = torch.linalg.cholesky_ex(covariance + tiny)
    is_known = root.isfinite().flatten(1).all(1)[:, None, None]
    return _Normals(centres, torch.where(is_known, root, torch.eye(size).to(root))), ess

r"""This file finds modes of a posterior, and makes a proposal of what lies around them.

In free coordinates f the log density log p(f, x) is climbed from draws of the prior
(L-BFGS). Around each different mode m the curvature H = -∇² log p gives a normal
N(m, H⁻¹), Laplace's approximation; the proposal is the mixture of Student's t of the
same location and scale, whose tails bound the weights. A mode counts by what Laplace's
approximation says is its mass,

    log p(m, x) + (d / 2) log 2π - ½ log |H|.

`refitted` moves the mixture to the weighted draws that it gave: each component's mean
and covariance become those of the draws that it is responsible for.

References:
    Tierney and Kadane (1986), Accurate approximations for posterior moments and
    marginal densities, JASA 81.
    Cappé, Douc, Guillin, Marin, Robert (2008), Adaptive importance sampling in general
    mixture classes, Statistics and Computing 18, https://arxiv.org/abs/0710.4242
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from .particles import Particles
from .proposal import ProposalDraw

__all__ = ["FreeTarget", "Mixture", "MixtureProposal", "laplace_mixture"]

_FREEDOM = 5.0
_STARTS = 12
_CANDIDATES = 256
_MOST_STEPS = 200
_DIFFERENCE = 1e-4
_SAME_MODE = 1.0
_LEAST_SHARE = 0.02
_MOST_MODES = 8
_FAR = 30.0
"""A mode with a log mass so far below the best one is left out, in nats."""


class FreeTarget(Protocol):
    """What is needed of a model: its density in free coordinates, and prior draws."""

    def log_joint_free(self, free: Tensor, observed: Tensor, /) -> Tensor:
        """Return log p(free, observed)."""

    def sample_latents(
        self, num: int, /, *, generator: torch.Generator, observed: Tensor
    ) -> Tensor:
        """Return draws of the prior."""

    def constrain(self, free: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return natural values, and log|det|."""

    def unconstrain(self, latents: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return free coordinates, and log|det|."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Student's t in free coordinates.

    Attributes:
        log_shares: Log of each component's share.
        locations: Where each component stands.
        factors: Lower triangular L of each component, L Lᵀ its scale matrix.
    """

    log_shares: Float[Tensor, " component"]
    locations: Float[Tensor, "component free"]
    factors: Float[Tensor, "component free free"]

    @classmethod
    def around(cls, free: Float[Tensor, "row free"]) -> "Mixture":
        """Return one Student's t of the rows' mean and covariance."""
        gap = free - free.mean(0)
        factor = _factor(gap.T @ gap / len(free))
        return cls(free.new_zeros(1), free.mean(0)[None], factor[None])

    def sample(
        self, num: int, *, generator: torch.Generator
    ) -> Float[Tensor, "draw free"]:
        """Return independent draws."""
        size = self.locations.shape[1]
        shares = self.log_shares.exp()
        which = torch.multinomial(shares, num, replacement=True, generator=generator)
        noise = torch.randn(num, size, 1, dtype=torch.float64, generator=generator)
        half = torch.full((num,), 0.5 * _FREEDOM, dtype=torch.float64)
        spread = torch._standard_gamma(half, generator=generator) / (0.5 * _FREEDOM)
        moved = (self.factors[which] @ noise).squeeze(-1)
        return self.locations[which] + moved / spread.sqrt().unsqueeze(1)

    def component_log_prob(
        self, free: Float[Tensor, "row free"]
    ) -> Float[Tensor, "row component"]:
        """Return log share + log density of every component."""
        size = free.shape[1]
        gap = (free.unsqueeze(0) - self.locations.unsqueeze(1)).mT
        z = torch.linalg.solve_triangular(self.factors, gap, upper=False)
        distance = z.square().sum(1).t()
        half = 0.5 * (_FREEDOM + size)
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        constant = (
            math.lgamma(half)
            - math.lgamma(0.5 * _FREEDOM)
            - 0.5 * size * math.log(math.pi * _FREEDOM)
        )
        density = constant - log_det - half * torch.log1p(distance / _FREEDOM)
        return self.log_shares + density

    def log_prob(self, free: Float[Tensor, "row free"]) -> Float[Tensor, " row"]:
        """Return the log density of rows."""
        return self.component_log_prob(free).logsumexp(1)

    def refitted(
        self,
        free: Float[Tensor, "row free"],
        log_weights: Float[Tensor, " row"],
    ) -> "Mixture":
        """Return the mixture moved to weighted rows."""
        alive = log_weights > -math.inf
        free, weights = free[alive], log_weights[alive].softmax(0)
        shares = self.component_log_prob(free).softmax(1) * weights.unsqueeze(1)
        totals = shares.sum(0)
        kept = [k for k in range(len(totals)) if float(totals[k]) > _LEAST_SHARE]
        locations, factors = [], []
        for k in kept:
            own = shares[:, k] / totals[k]
            location = own @ free
            gap = free - location
            covariance = (own.unsqueeze(1) * gap).T @ gap
            # One half of the old scale keeps it regular where few rows carry weight.
            effective = 1.0 / float(own.square().sum())
            trust = effective / (effective + 2.0 * free.shape[1])
            old = self.factors[k] @ self.factors[k].T
            blended = trust * covariance + (1.0 - trust) * old
            locations.append(location)
            factors.append(_factor(blended))
        return Mixture(
            (totals[kept] / totals[kept].sum()).log(),
            torch.stack(locations),
            torch.stack(factors),
        )


@dataclass(frozen=True, eq=False)
class MixtureProposal:
    """A mixture in free coordinates as a proposal; see `inference.proposal.Proposal`.

    Attributes:
        target: The model, for its coordinates.
        mixture: What is drawn from.
    """

    target: FreeTarget
    mixture: Mixture

    @property
    def nuisance_dim(self) -> int:
        """Return 0: there are no nuisances."""
        return 0

    def rsample_and_log_prob(
        self,
        observed: Float[Tensor, " observed"],  # noqa: ARG002
        num_particles: int,
        *,
        generator: torch.Generator,
    ) -> ProposalDraw:
        """Return draws with their densities."""
        free = self.mixture.sample(num_particles, generator=generator)
        latents, log_det = self.target.constrain(free)
        log_prob = self.mixture.log_prob(free) - log_det
        return ProposalDraw(latents, latents.new_empty(num_particles, 0), log_prob)

    def log_prob(
        self,
        latents: Float[Tensor, "particle latent"],
        nuisances: Float[Tensor, "particle nuisance"],  # noqa: ARG002
        observed: Float[Tensor, " observed"],  # noqa: ARG002
    ) -> Float[Tensor, " particle"]:
        """Return the density at given values."""
        is_there = torch.isfinite(latents).all(1)
        safe = torch.where(is_there.unsqueeze(1), latents, latents[is_there][:1])
        free, log_det = self.target.unconstrain(safe)
        found = self.mixture.log_prob(free) - log_det
        return torch.where(is_there, found, -math.inf)

    def refitted(self, particles: Particles) -> "MixtureProposal":
        """Return the proposal moved to weighted particles."""
        alive = particles.log_weights > -math.inf
        free, _ = self.target.unconstrain(particles.latents[alive])
        moved = self.mixture.refitted(free, particles.log_weights[alive])
        return MixtureProposal(self.target, moved)


def laplace_mixture(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    *,
    generator: torch.Generator,
    is_over: Callable[[], bool] = lambda: False,
) -> Mixture | None:
    """Return a mixture around the modes that are found; None if there is none.

    Args:
        target: The model.
        observed: The data.
        generator: Source of the starting points.
        is_over: Whether the search is to end with what is found; asked at each step.
    """
    drawn = target.sample_latents(_CANDIDATES, generator=generator, observed=observed)
    drawn = drawn[torch.isfinite(drawn).all(1)]
    if not len(drawn):
        return None
    free, _ = target.unconstrain(drawn)
    with torch.no_grad():
        values = target.log_joint_free(free, observed)
    usable = torch.isfinite(values) & torch.isfinite(free).all(1)
    order = values[usable].argsort(descending=True)
    ranked = free[usable][order]
    # Half of the starts are the best draws, half are spread over all of them.
    half = min(_STARTS // 2, len(ranked))
    places = torch.linspace(0, max(len(ranked) - 1, 0), _STARTS - half).long()
    starts = torch.cat([ranked[:half], ranked[places]]) if half else ranked
    modes: list[tuple[float, Tensor, Tensor]] = []
    for start in starts:
        if is_over():
            break
        top = _climbed(target, observed, start, is_over)
        if top is None or any(_is_same(top, place, f) for _, place, f in modes):
            continue
        factor = _curvature_factor(target, observed, top)
        if factor is None:
            continue
        with torch.no_grad():
            height = float(target.log_joint_free(top.unsqueeze(0), observed)[0])
        mass = height + float(factor.diagonal().log().sum())
        if math.isfinite(mass):
            modes.append((mass, top, factor))
    if not modes:
        return None
    best = max(mass for mass, _, _ in modes)
    kept = sorted((m for m in modes if m[0] >= best - _FAR), key=lambda m: -m[0])
    kept = kept[:_MOST_MODES]
    masses = torch.tensor([mass for mass, _, _ in kept], dtype=torch.float64)
    shares = masses.softmax(0).clamp_min(_LEAST_SHARE)
    return Mixture(
        (shares / shares.sum()).log(),
        torch.stack([place for _, place, _ in kept]),
        torch.stack([factor for _, _, factor in kept]),
    )


def _climbed(
    target: FreeTarget, observed: Tensor, start: Tensor, is_over: Callable[[], bool]
) -> Tensor | None:
    """Return the mode that a point climbs to; None if it gets nowhere in time."""

    def ended(_: Any) -> None:
        if is_over():
            raise StopIteration

    def objective(place: Any) -> tuple[float, Any]:
        leaf = torch.from_numpy(place).unsqueeze(0).requires_grad_()
        value = target.log_joint_free(leaf, observed).sum()
        if not bool(torch.isfinite(value)):
            return 1e100, np.zeros_like(place)
        (slope,) = torch.autograd.grad(value, leaf)
        slope = torch.where(torch.isfinite(slope), slope, 0.0)
        return -float(value.detach()), -slope[0].numpy()

    found = minimize(
        objective,
        start.numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=ended,
        options={"maxiter": _MOST_STEPS, "maxcor": 20},
    )
    place = torch.from_numpy(found.x)
    usable = bool(torch.isfinite(place).all()) and found.fun < 1e99 and not is_over()
    return place if usable else None


def _is_same(place: Tensor, other: Tensor, factor: Tensor) -> bool:
    gap = (place - other).unsqueeze(1)
    z = torch.linalg.solve_triangular(factor, gap, upper=False)
    return float(z.square().mean()) < _SAME_MODE


def _curvature_factor(
    target: FreeTarget, observed: Tensor, top: Tensor
) -> Tensor | None:
    """Return L with L Lᵀ = H⁻¹, H the curvature by differences of the gradient."""
    size = len(top)
    step = _DIFFERENCE * (1.0 + top.abs())
    moves = torch.diag(step)
    leaf = torch.cat([top + moves, top - moves]).requires_grad_()
    value = target.log_joint_free(leaf, observed).sum()
    if not bool(torch.isfinite(value)):
        return None
    (slope,) = torch.autograd.grad(value, leaf)
    curvature = -(slope[:size] - slope[size:]) / (2.0 * step.unsqueeze(1))
    if not bool(torch.isfinite(curvature).all()):
        return None
    curvature = 0.5 * (curvature + curvature.T)
    values, vectors = torch.linalg.eigh(curvature)
    # A direction without curvature is given the width of the flattest one that has.
    positive = values[values > 1e-10 * values.abs().max()]
    least = float(positive.min()) if len(positive) else 1.0
    scale = values.clamp_min(0.25 * least)
    return _factor((vectors / scale) @ vectors.T)


def _factor(covariance: Tensor) -> Tensor:
    """Return the Cholesky factor, with as much on the diagonal as it needs."""
    size = covariance.diagonal().mean().clamp_min(1e-300)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    jitter = 1e-12
    while True:
        found = torch.linalg.cholesky_ex(covariance + jitter * size * identity)
        factor: Tensor = found.L
        if not int(found.info):
            return factor
        jitter *= 100.0

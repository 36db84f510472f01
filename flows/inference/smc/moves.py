r"""This file moves particles by Markov kernels that keep a given density π.

Between a proposal and a target lies π(c) ∝ reference(c) w(c)^β, w the importance weight
and β the temperature. Both moves propose a place and accept it with a probability that
keeps π (Metropolis and Hastings), at a step size ε and along a factor L of the
particles' covariance, L Lᵀ:

    random walk    c' = c + ε L ξ,  ξ ~ N(0, I);  accept with min(1, π(c') / π(c));
    Hamiltonian    momentum p ~ N(0, I), leapfrog steps of
                       p += ε/2 Lᵀ ∇ log π(c);   c += ε L p;   p += ε/2 Lᵀ ∇ log π(c);
                   accept with min(1, exp(H(c, p) - H(c', p'))),
                   H(c, p) = |p|²/2 - log π(c).

Every particle draws its own share of ε, uniform between 0 and 1, before each move:
where the density is narrower than the covariance says (a bend, a second mode), full
steps are refused again and again, short ones are not.

A place where the density is nan is refused and counted as divergent: a leap too far.

References:
    Roberts, Gelman, Gilks (1997), Weak convergence and optimal scaling of random walk
    Metropolis algorithms, Annals of Applied Probability 7.
    Neal (2011), MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import InferenceError, Problem

__all__ = [
    "Evaluate",
    "Hamiltonian",
    "Move",
    "MoveOutcome",
    "Point",
    "RandomWalk",
    "weighted_factor",
]

Evaluate = Callable[[Float[Tensor, "particle coordinate"]], "Point"]

# Roberts, Gelman and Gilks (1997): the best scale and the acceptance it leads to.
_RANDOM_WALK_SCALE = 2.38
_RANDOM_WALK_ACCEPTANCE = 0.3
_HAMILTONIAN_ACCEPTANCE = 0.8
# Keeps a factor regular where particles agree in a coordinate, relative to their size.
_RELATIVE_JITTER = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Where particles are, and how likely.

    Attributes:
        coordinates: What is moved.
        latents: Natural values.
        log_reference: Log density of the proposal on the coordinates, in nats.
        log_weight: Log of the importance weight of target against proposal, in nats.
    """

    coordinates: Float[Tensor, "particle coordinate"]
    latents: Float[Tensor, "particle latent"]
    log_reference: Float[Tensor, " particle"]
    log_weight: Float[Tensor, " particle"]

    def log_density(self, temperature: float) -> Float[Tensor, " particle"]:
        """Return log π_β up to a constant, for a temperature β above 0."""
        return self.log_reference + temperature * self.log_weight

    def rows(self, rows: Int[Tensor, " row"]) -> "Point":
        """Return some of the particles."""
        return Point(
            self.coordinates[rows],
            self.latents[rows],
            self.log_reference[rows],
            self.log_weight[rows],
        )

    def replaced(self, other: "Point", where: Bool[Tensor, " particle"]) -> "Point":
        """Return the particles with those of `other` where it is so said."""
        column = where.unsqueeze(1)
        return Point(
            torch.where(column, other.coordinates, self.coordinates),
            torch.where(column, other.latents, self.latents),
            torch.where(where, other.log_reference, self.log_reference),
            torch.where(where, other.log_weight, self.log_weight),
        )

    def detached(self) -> "Point":
        """Return the same values without their gradients."""
        return Point(
            self.coordinates.detach(),
            self.latents.detach(),
            self.log_reference.detach(),
            self.log_weight.detach(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class MoveOutcome:
    """Particles after one move.

    Attributes:
        point: Where they are; a refused particle is where it was.
        acceptance: Mean probability of acceptance.
        num_divergent: How many were refused because the density was nan.
    """

    point: Point
    acceptance: float
    num_divergent: int


class Move(Protocol):
    """A Markov kernel with a step size."""

    def first_step_size(self, num_coordinates: int) -> float:
        """Return a step size to begin with."""

    def adapted(self, step_size: float, acceptance: float) -> float:
        """Return a better step size, given how many moves were accepted."""

    def step(
        self,
        point: Point,
        evaluate: Evaluate,
        temperature: float,
        factor: Float[Tensor, "coordinate coordinate"],
        step_size: float,
        generator: torch.Generator,
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π at a temperature."""


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """Gaussian steps; needs densities only."""

    def first_step_size(self, num_coordinates: int) -> float:
        """Return 2.38 / √(number of coordinates)."""
        return _RANDOM_WALK_SCALE / math.sqrt(max(num_coordinates, 1))

    def adapted(self, step_size: float, acceptance: float) -> float:
        """Return a longer step if more than 30 % was accepted, else a shorter one."""
        return step_size * math.exp(acceptance - _RANDOM_WALK_ACCEPTANCE)

    @torch.no_grad()
    def step(
        self,
        point: Point,
        evaluate: Evaluate,
        temperature: float,
        factor: Float[Tensor, "coordinate coordinate"],
        step_size: float,
        generator: torch.Generator,
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π at a temperature."""
        noise = _normal_like(point.coordinates, generator)
        step = step_size * _shares(point.log_weight, generator).unsqueeze(1)
        proposed = evaluate(point.coordinates + step * noise @ factor.T)
        log_ratio = proposed.log_density(temperature) - point.log_density(temperature)
        return _accept(point, proposed, log_ratio, generator)


@dataclass(frozen=True, slots=True)
class Hamiltonian:
    """Leapfrog trajectories; needs gradients of the density.

    Attributes:
        num_leaps: Number of leapfrog steps in one trajectory.
    """

    num_leaps: int = 8

    def first_step_size(self, num_coordinates: int) -> float:
        """Return 1 / d^(1/4): acceptance keeps its size in high dimension."""
        return float(max(num_coordinates, 1) ** -0.25)

    def adapted(self, step_size: float, acceptance: float) -> float:
        """Return a longer step if more than 80 % was accepted, else a shorter one."""
        return step_size * math.exp(acceptance - _HAMILTONIAN_ACCEPTANCE)

    def step(
        self,
        point: Point,
        evaluate: Evaluate,
        temperature: float,
        factor: Float[Tensor, "coordinate coordinate"],
        step_size: float,
        generator: torch.Generator,
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π at a temperature."""
        momentum = _normal_like(point.coordinates, generator)
        step = step_size * _shares(point.log_weight, generator).unsqueeze(1)
        push = momentum
        place, slope = _with_slope(point.coordinates, evaluate, temperature, factor)
        for _ in range(self.num_leaps):
            push = push + 0.5 * step * slope
            place, slope = _with_slope(
                place.coordinates + step * push @ factor.T,
                evaluate,
                temperature,
                factor,
            )
            push = push + 0.5 * step * slope
        log_ratio = place.log_density(temperature) - point.log_density(temperature)
        kinetic = 0.5 * (momentum.square() - push.square()).sum(1)
        return _accept(point, place, log_ratio + kinetic, generator)


def weighted_factor(
    coordinates: Float[Tensor, "particle coordinate"],
    normalized_weights: Float[Tensor, " particle"],
) -> Float[Tensor, "coordinate coordinate"]:
    """Return the lower triangular L with L Lᵀ the weighted covariance."""
    is_positive = (normalized_weights > 0.0).unsqueeze(1)
    values = torch.where(is_positive, coordinates, 0.0)
    deviation = torch.where(is_positive, values - normalized_weights @ values, 0.0)
    covariance = (normalized_weights.unsqueeze(1) * deviation).T @ deviation
    size = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    jitter = (
        _RELATIVE_JITTER
        * size
        * torch.eye(
            covariance.shape[0], dtype=covariance.dtype, device=covariance.device
        )
    )
    factor: Tensor = torch.linalg.cholesky(covariance + jitter)
    return factor


def _with_slope(
    coordinates: Float[Tensor, "particle coordinate"],
    evaluate: Evaluate,
    temperature: float,
    factor: Float[Tensor, "coordinate coordinate"],
) -> tuple[Point, Float[Tensor, "particle coordinate"]]:
    """Return a point and the gradient of its log density times the factor.

    Where the gradient is no number it counts as 0: a leap that is as reversible as any,
    and the place itself is then judged by its density.
    """
    with torch.enable_grad():
        leaf = coordinates.detach().requires_grad_()
        point = evaluate(leaf)
        (slope,) = torch.autograd.grad(point.log_density(temperature).sum(), leaf)
    slope = torch.where(slope.isfinite(), slope, 0.0)
    return point.detached(), slope @ factor


def _accept(
    point: Point,
    proposed: Point,
    log_ratio: Float[Tensor, " particle"],
    generator: torch.Generator,
) -> MoveOutcome:
    """Return the proposed places where accepted, the old ones elsewhere."""
    num_infinite = int((log_ratio == torch.inf).sum())
    if num_infinite:
        raise InferenceError(
            Problem(
                "moves",
                "densities are infinite, or particles stand where the density is 0",
                "finite densities at every particle",
                f"{num_infinite} of {log_ratio.shape[0]} not finite",
            )
        )
    is_divergent = log_ratio.isnan()
    probability = torch.where(is_divergent, 0.0, log_ratio.clamp(max=0.0).exp())
    return MoveOutcome(
        point.replaced(proposed, _shares(probability, generator) < probability),
        float(probability.mean()),
        int(is_divergent.sum()),
    )


def _shares(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers uniform between 0 and 1."""
    return torch.rand(
        like.shape, dtype=torch.float64, generator=generator, device=like.device
    )


def _normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(
        values.shape, dtype=torch.float64, generator=generator, device=values.device
    )

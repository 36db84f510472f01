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
steps are refused again and again, short ones are not. A trajectory has as many leaps as
make ε L a half turn of a normal density, π, at most a given number: averaged over the
shares, its end then has no correlation with its start.

A place with a value or a log density that is no finite number is refused and counted
as divergent: a leap too far, to where a model has no meaning, say. Particles that stand
where there is no density stay there, and do not count.

References:
    Roberts, Gelman, Gilks (1997), Weak convergence and optimal scaling of random walk
    Metropolis algorithms, Annals of Applied Probability 7.
    Neal (2011), MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..noise import standard_normal, uniform
from .point import Evaluate, Point
from .schedule import Stage

__all__ = [
    "Hamiltonian",
    "Move",
    "MoveAround",
    "MoveOutcome",
    "RandomWalk",
    "accept",
    "shares",
]

# Roberts, Gelman and Gilks (1997): the best scale and the acceptance it leads to.
_RANDOM_WALK_SCALE = 2.38
_RANDOM_WALK_ACCEPTANCE = 0.3
_HAMILTONIAN_ACCEPTANCE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class MoveOutcome:
    """Particles after one move.

    Attributes:
        point: Where they are; a refused particle is where it was.
        acceptance: Mean probability of acceptance; nan if no particle can move.
        num_divergent: How many were refused because a value was no finite number.
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
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π of a stage."""


class MoveAround:
    """A kernel that first moves in a way of its own, then by another one.

    Attributes:
        rest: The other one, whose step size it is.
    """

    __slots__ = ()
    rest: Move

    def first_step_size(self, num_coordinates: int) -> float:
        """Return that of the other kernel."""
        return self.rest.first_step_size(num_coordinates)

    def adapted(self, step_size: float, acceptance: float) -> float:
        """Return that of the other kernel."""
        return self.rest.adapted(step_size, acceptance)


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
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π of a stage."""
        noise, step = _noise_and_step(point, stage, generator)
        proposed = evaluate(point.coordinates + step * noise @ stage.factor.T)
        return accept(point, proposed, 0.0, stage, generator)


@dataclass(frozen=True, slots=True)
class Hamiltonian:
    """Leapfrog trajectories; needs gradients of the density.

    Attributes:
        most_leaps: Largest number of leapfrog steps in one trajectory.
    """

    most_leaps: int = 8

    def first_step_size(self, num_coordinates: int) -> float:
        """Return 1 / d^(1/4): acceptance keeps its size in high dimension."""
        return float(max(num_coordinates, 1) ** -0.25)

    def adapted(self, step_size: float, acceptance: float) -> float:
        """Return a longer step if more than 80 % was accepted, else a shorter one."""
        return step_size * math.exp(acceptance - _HAMILTONIAN_ACCEPTANCE)

    def step(
        self, point: Point, evaluate: Evaluate, stage: Stage, generator: torch.Generator
    ) -> MoveOutcome:
        """Return the particles after one move that keeps π of a stage."""
        momentum, step = _noise_and_step(point, stage, generator)
        push = momentum
        place, slope = _with_slope(point.coordinates, evaluate, stage)
        for _ in range(min(self.most_leaps, math.ceil(math.pi / stage.step_size))):
            push = push + 0.5 * step * slope
            place, slope = _with_slope(
                place.coordinates + step * push @ stage.factor.T, evaluate, stage
            )
            push = push + 0.5 * step * slope
        kinetic = 0.5 * (momentum.square() - push.square()).sum(1)
        return accept(point, place, kinetic, stage, generator)


def _noise_and_step(
    point: Point, stage: Stage, generator: torch.Generator
) -> tuple[Float[Tensor, "particle coordinate"], Float[Tensor, "particle 1"]]:
    """Return standard normal numbers, and the step that each particle drew."""
    noise = standard_normal(*point.coordinates.shape, generator=generator)
    return noise, stage.step_size * shares(point.log_weight, generator).unsqueeze(1)


def _with_slope(
    coordinates: Float[Tensor, "particle coordinate"], evaluate: Evaluate, stage: Stage
) -> tuple[Point, Float[Tensor, "particle coordinate"]]:
    """Return a point and the gradient of its log density times the factor.

    Where the gradient is no number it counts as 0: a leap that is as reversible as any,
    and the place itself is then judged by its density.
    """
    with torch.enable_grad():
        leaf = coordinates.detach().requires_grad_()
        point = evaluate(leaf)
        (slope,) = torch.autograd.grad(point.log_density(stage.temperature).sum(), leaf)
    slope = torch.where(slope.isfinite(), slope, 0.0)
    return point.detached(), slope @ stage.factor


def accept(
    point: Point,
    proposed: Point,
    log_correction: Float[Tensor, " particle"] | float,
    stage: Stage,
    generator: torch.Generator,
) -> MoveOutcome:
    """Return the proposed places where accepted, the old ones elsewhere.

    Args:
        point: Where the particles are.
        proposed: Where they might go.
        log_correction: What stands beside the ratio of the densities, in nats.
        stage: Whose density is kept.
        generator: Decides.
    """
    log_density = proposed.log_density(stage.temperature)
    log_ratio = log_density - point.log_density(stage.temperature) + log_correction
    is_divergent = ~(log_ratio.isfinite() & proposed.is_finite)
    probability = torch.where(is_divergent, 0.0, log_ratio.clamp(max=0.0).exp())
    can_move = point.can_move
    is_taken = shares(probability, generator) < probability
    return MoveOutcome(
        point.placed(is_taken, proposed.rows(is_taken)),
        float(probability[can_move].mean()),
        int((is_divergent & can_move).sum()),
    )


def shares(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers uniform between 0 and 1."""
    return uniform(*like.shape, generator=generator)

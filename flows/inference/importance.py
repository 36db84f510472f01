r"""This file weighs independent draws of a proposal against the target.

    (z_i, y_i) ~ q(· | x),      log w_i = log p(z_i, x) - log_prob(z_i, y_i | x).

The mean weight is an unbiased estimate of the evidence p(x); the self-normalised
averages converge to those of the posterior. Batches are drawn apart, each from a
generator that follows from the seed and the batch's number alone: a batch that was lost
can be drawn again and is the same batch, wherever and in whatever order it is drawn.

References:
    Owen (2013), Monte Carlo theory, methods and examples, chapter 9,
    https://artowen.su.domains/mc/
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..model.layout import Layout
from .columns import latent_columns
from .log_weight import checked_log_weights
from .noise import seed_of_part
from .particles import Particles
from .proposal import Proposal, Target
from .weights import WeightTotals

__all__ = [
    "BATCH_SIZE",
    "MOST_SEED",
    "ImportanceReport",
    "batch_generator",
    "importance_batch",
    "importance_particles",
    "importance_sample",
    "unweighted_sample",
]

BATCH_SIZE = 10_000
"""Particles drawn at once unless another number is asked for."""

MOST_SEED = 2**62
"""Largest seed that is taken from outside: numbers may be added to it."""


@dataclass(frozen=True, slots=True, eq=False)
class ImportanceReport:
    """One batch of particles, with the totals so far.

    Attributes:
        particles: The particles of this batch only.
        totals: What the weights of all batches so far add up to.
        num_planned: Number of particles that the run will draw in all.
    """

    particles: Particles
    totals: WeightTotals
    num_planned: int


def batch_generator(
    seed: int, batch: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the generator of one batch; streams of different batches do not overlap.

    Args:
        seed: Seed of the whole run, not negative.
        batch: Number of the batch, from 0.
        device: Where the proposal draws.
    """
    return torch.Generator(device).manual_seed(seed_of_part(seed, batch))


@torch.no_grad()
def importance_batch(
    target: Target,
    proposal: Proposal,
    observed: Float[Tensor, " observed"],
    num_particles: int,
    *,
    generator: torch.Generator,
) -> Particles:
    """Return weighted draws of one batch, on the CPU.

    Raises:
        InferenceError: If a weight is nan or +inf, or a density not in float64.
    """
    draw = proposal.rsample_and_log_prob(observed, num_particles, generator=generator)
    log_weights = checked_log_weights(target, draw, observed)
    return Particles.from_draws(
        draw.latents.cpu(), log_weights.cpu(), latent_columns(target.layout)
    )


def importance_sample(
    target: Target,
    proposal: Proposal,
    observed: Float[Tensor, " observed"],
    num_particles: int,
    *,
    seed: int,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ImportanceReport]:
    """Yield the particles batch by batch, with the totals so far.

    The memory in use is that of one batch; who wants all particles merges them, who
    wants enough of them stops when `report.totals.ess` is.

    Args:
        target: The model.
        proposal: What is drawn from.
        observed: The observed values, on the proposal's device.
        num_particles: Number of particles in all.
        seed: Decides every draw, together with `batch_size`.
        batch_size: Number of particles drawn at once.

    Raises:
        ArgumentError: If a number is not positive.
        InferenceError: If a weight is nan or +inf, or a density not in float64.
    """
    _check_positive(num_particles=num_particles, batch_size=batch_size)

    def draw(num: int, generator: torch.Generator) -> Particles:
        return importance_batch(target, proposal, observed, num, generator=generator)

    return _batches(draw, num_particles, seed, batch_size, observed.device)


def unweighted_sample(
    proposal: Proposal,
    layout: Layout,
    observed: Float[Tensor, " observed"],
    num_particles: int,
    *,
    seed: int,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ImportanceReport]:
    """Yield the draws of `importance_sample` with log weights 0: those of the proposal.

    They are for targets without a density; see `importance_sample` for the arguments.
    """
    _check_positive(num_particles=num_particles, batch_size=batch_size)
    columns = latent_columns(layout)

    @torch.no_grad()
    def draw(num: int, generator: torch.Generator) -> Particles:
        drawn = proposal.rsample_and_log_prob(observed, num, generator=generator)
        weights = torch.zeros(num, dtype=torch.float64)
        return Particles.from_draws(drawn.latents.cpu(), weights, columns)

    return _batches(draw, num_particles, seed, batch_size, observed.device)


def importance_particles(
    target: Target,
    proposal: Proposal,
    observed: Float[Tensor, " observed"],
    num_particles: int,
    *,
    seed: int,
    batch_size: int = BATCH_SIZE,
    is_over: Callable[[], bool] = lambda: False,
) -> Particles:
    """Return all particles of `importance_sample` as one set.

    After a batch at whose end `is_over` no more are drawn.
    """
    reports = importance_sample(
        target,
        proposal,
        observed,
        num_particles,
        seed=seed,
        batch_size=batch_size,
    )
    kept = []
    for report in reports:
        kept.append(report.particles)
        if is_over():
            break
    return Particles.merge(kept)


def _batches(
    draw: Callable[[int, torch.Generator], Particles],
    num_particles: int,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> Iterator[ImportanceReport]:
    totals = WeightTotals()
    for batch, start in enumerate(range(0, num_particles, batch_size)):
        num = min(batch_size, num_particles - start)
        particles = draw(num, batch_generator(seed, batch, device))
        totals = totals.merge(particles.totals)
        yield ImportanceReport(particles, totals, num_particles)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ArgumentError.at(
                f"importance sampling: {name}", "out of range", "1 or more", str(number)
            )

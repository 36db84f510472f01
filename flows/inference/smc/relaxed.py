r"""This file holds data softly that nearly all places exclude, so that ways lead in.

A value may be possible in a small part of the prior alone: a rounded number, bounds
that a latent was seen to keep, an order. Tempering has nothing to begin with there, as
0^β = 0. Here the log likelihood of each such node is held at a floor below what it is
elsewhere: particles that break fewer bounds weigh more, and tempering leads them in by
one after the other. At the end (`settled`) those that still break one weigh nothing,
and all weigh what they should.

References:
    Cérou, Del Moral, Furon, Guyader (2012), Sequential Monte Carlo for rare event
    estimation, Statistics and Computing 22(3).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..shapes import Places
from .annealing import AnnealingReport, AnnealingState
from .config import AnnealingConfig
from .coordinates import Space, SpaceAround
from .point import Point
from .result import SmcResult

__all__ = ["RelaxedSpace", "relaxed", "settled"]

_DRAWS = 2000
_ENOUGH = 0.1
"""Share of the draws with a density that tempering begins well with."""
_DEPTH = 20.0
"""Nats of the floor below the least of a node elsewhere: more than a bound costs."""


@dataclass(frozen=True, slots=True, eq=False)
class RelaxedSpace(SpaceAround):
    """A space whose target is held softly where its density is 0.

    Attributes:
        space: The space proper, from the prior: its weights are likelihoods.
        floors: Least log likelihood of each observed node, in nats; -inf for none.
    """

    floors: Float[Tensor, " node"]

    def at(self, coordinates: Places) -> Point:
        """Return the densities at given coordinates, none of them 0 for a bound."""
        point = self.space.at(coordinates)
        is_out = point.log_weight == -torch.inf
        if not bool(is_out.any()):
            return point
        terms = _terms(self.space, point.latents[is_out])
        held = torch.where(terms > self.floors, terms, self.floors).sum(-1)
        places = is_out.nonzero()[:, 0]
        weights = point.log_weight.index_copy(0, places, held)
        return replace(point, log_weight=weights)


@torch.no_grad()
def relaxed(space: Space, *, generator: Generator) -> Space:
    """Return a space that ways lead into; the space itself where draws are in it.

    Args:
        space: From the prior of a target that says the terms of its likelihood.
        generator: Of the draws that are looked at.
    """
    draws = space.at(space.draw(_DRAWS, generator=generator))
    terms = _terms(space, draws.latents)
    is_in = terms > -torch.inf
    if float(is_in.all(1).double().mean()) >= _ENOUGH:
        return space
    least = torch.where(is_in, terms, torch.inf).amin(0)
    least = torch.where(least.isfinite(), least, 0.0)
    floors = torch.where(is_in.all(0), -torch.inf, least - _DEPTH)
    return RelaxedSpace(space, floors)


@torch.no_grad()
def settled(
    state: AnnealingState,
    report: AnnealingReport,
    space: RelaxedSpace,
    config: AnnealingConfig,
    generator: Generator,
) -> tuple[AnnealingState, AnnealingReport]:
    """Return particles that were led in as those of the space proper, with the report.

    Args:
        state: The particles, at the end of their way.
        report: The last one of it.
        space: Where they were led.
        config: How they are resampled, if some weigh nothing.
        generator: Decides.
    """
    point = space.space.at(state.point.coordinates)
    gained = point.log_weight - state.point.log_weight
    is_out = point.log_weight == -torch.inf
    lineages = state.lineages.grow(torch.where(is_out, -torch.inf, gained))
    if bool(is_out.any()) and not bool(is_out.all()):
        lineages, ancestors = lineages.resample(config.scheme, generator)
        point = point.rows(ancestors)
    result = SmcResult.from_run(point.latents, lineages, space.target.layout)
    return (
        replace(state, point=point, lineages=lineages),
        replace(report, result=result),
    )


def _terms(space: Space, latents: Tensor) -> Float[Tensor, "particle node"]:
    rows = space.observed.expand(len(latents), -1)
    return space.target.log_likelihood_terms(latents, rows)

"""This file says how much of a posterior lies where doubles end.

A beta of parameters 1 and 0.05 has a sixth of its mass where values round to 1. No
density describes it there, so that draws which are weighted by one miss it, and no
weight of theirs tells: the mass is where they are not. The prior's own draws are there
as often as they should. With p(E) the share of those there, B the latents that are
there with those they descend from, and g what is left of p(z, x) without the factors
of B,

    p(E | x) / p(not E | x) = p(E) / p(not E) E[g(B', u) / g(B, u)],

(B, u) posterior draws away from the edge and B' prior draws at it: redrawing B alone
keeps what data say of the others. Below a five-hundredth nothing is said: so little
moves the evidence by less than its usual error.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.particles import Particles
from ..inference.smc.annealing import AnnealingReport
from ..inference.smc.result import run_seed
from ..model.model import Model
from .targets import Target

__all__ = ["edge_doubts", "held_columns", "tempered_edge_doubts"]

_FIRST, _NUM_PRIOR = 1_000, 10_000
"""Prior draws: if none of the first is at the edge, there is hardly any mass."""
_NUM_COMPARED = 1_000
_MOST_SHARE = 2e-3
_MOST_RATIO = 50.0
"""In nats, of one comparison: more than any share that is printed."""
_LOGARITHMS = (
    "ample logarithms: that of (gamma a b) is (log g) less e, g of (gamma (+ a 1) b) "
    "and e of (exponential a); (beta a b) is 1 / (1 + exp(v - u)), u and v those of "
    "(gamma a 1) and (gamma b 1)"
)
_UNMOVED = "Use --method prior or --method smc of `daphne-flows infer`, or s"


def held_columns(target: Target) -> tuple[int, ...]:
    """Return free coordinates of single numbers that no latent is a parent of.

    Their own factor is a constant where they are held; those of a vector share digits.
    """
    latents = {*target.graph.latents}
    return tuple(
        variable.free_start
        for variable in target.layout.latents
        if variable.free_size == 1
        and latents.isdisjoint(target.graph.parents(variable.name))
    )


def edge_doubts(
    target: Target,
    observed: Float[Tensor, " observed"],
    particles: Particles,
    *,
    seed: int,
    apart: tuple[int, ...] = (),
    is_tempered: bool = False,
) -> tuple[Caution, ...]:
    """Return a caution if weighted draws miss posterior mass where doubles end.

    Args:
        target: What the particles are of, rows without meaning impossible.
        observed: The data.
        particles: Rows of its latents, or of all latents of the model.
        seed: Decides the prior's draws.
        apart: Free coordinates that may be at the edge: the draws know of that mass.
        is_tempered: Whether they were tempered from the prior already.
    """
    if not target.layout.free_dim or particles.totals.log_sum == -math.inf:
        return ()
    if is_tempered and len(target.layout.latents) == 1:
        return ()  # nothing else has to move
    generator = torch.Generator().manual_seed(run_seed(seed, 1_000_016))
    looked_at = 0
    parts: list[tuple[Tensor, Tensor]] = []
    for num in (_FIRST, _NUM_PRIOR - _FIRST):
        drawn = target.sample_latents(num, generator=generator, observed=observed)
        looked_at += num
        found = _at_edge(target, drawn, apart)
        is_there = found.any(1)
        if not bool(is_there.any()) and not parts:
            return ()
        parts.append((drawn[is_there], found[is_there]))
    there, at_edge = (torch.cat(each) for each in zip(*parts, strict=True))
    share = len(there) / looked_at
    again = torch.arange(_NUM_COMPARED) % len(there)
    there, at_edge = there[again], at_edge[again]
    ratio = _mean_ratio(target, observed, particles, there, at_edge, generator)
    mass = share * ratio / (share * ratio + 1.0 - share)
    if mass <= _MOST_SHARE:
        return ()
    names = ", ".join(
        variable.label
        for variable in target.layout.latents
        if bool(at_edge[:, variable.free_start : variable.free_stop].any())
    )
    return (
        Caution(
            f"about {mass:.1%} of the posterior's values of {names} are where doubles "
            "end",
            "no density describes them there: weighted draws miss them",
            f"S{_LOGARITHMS}" if is_tempered else f"{_UNMOVED}{_LOGARITHMS}",
        ),
    )


def tempered_edge_doubts(
    target: Target,
    observed: Float[Tensor, " observed"],
    particles: Particles,
    reports: Sequence[AnnealingReport],
    *,
    seed: int,
    from_prior: bool,
    is_held: bool = True,
) -> tuple[Caution, ...]:
    """Return a caution if particles that were tempered miss mass where doubles end.

    The prior's draws are there; what is moved stays so if the others move beside it.

    Args:
        target: See `edge_doubts`, as the data and the particles.
        observed: The data.
        particles: The particles.
        reports: Of every temperature.
        seed: Decides the prior's draws.
        from_prior: Whether they began as draws of the prior.
        is_held: Whether others moved beside latents that are held at the edge.
    """
    if from_prior and all(each.temperature == 1.0 for each in reports):
        return ()
    apart = held_columns(target) if from_prior and is_held else ()
    return edge_doubts(
        target, observed, particles, seed=seed, apart=apart, is_tempered=from_prior
    )


def _at_edge(
    target: Target, rows: Float[Tensor, "row latent"], apart: tuple[int, ...]
) -> Bool[Tensor, "row free"]:
    """Return which free coordinates of rows are at the edge; none of other rows."""
    found = torch.zeros(len(rows), target.layout.free_dim, dtype=torch.bool)
    usable = ~torch.isnan(rows).any(1)
    found[usable] = target.at_edge(target.unconstrain(rows[usable])[0])
    found[:, list(apart)] = False
    return found


def _mean_ratio(
    target: Target,
    observed: Float[Tensor, " observed"],
    particles: Particles,
    there: Float[Tensor, "row latent"],
    at_edge: Bool[Tensor, "row free"],
    generator: torch.Generator,
) -> float:
    """Return how much likelier rows become, on average, with prior draws in them."""
    rows = _rows(target, particles, generator)
    away = rows[~_at_edge(target, rows, ()).any(1)]
    if not len(away):
        return math.exp(_MOST_RATIO)
    away = away[torch.arange(len(there)) % len(away)]
    variables = target.layout.latents
    redrawn = torch.zeros(len(there), len(variables), dtype=torch.bool)
    names = [variable.name for variable in variables]
    for variable in variables:
        own = at_edge[:, variable.free_start : variable.free_stop].any(1)
        with_it = _redrawn_with(target, variable.name)
        redrawn |= own.unsqueeze(1) & torch.tensor([n in with_it for n in names])
    widths = torch.tensor([variable.size for variable in variables])
    mixed = torch.where(redrawn.repeat_interleave(widths, 1), there, away)
    gap = _rest(target, mixed, observed, redrawn) - _rest(
        target, away, observed, redrawn
    )
    return float(gap.nan_to_num(nan=-math.inf).clamp(max=_MOST_RATIO).exp().mean())


def _rows(
    target: Target, particles: Particles, generator: torch.Generator
) -> Float[Tensor, "row latent"]:
    """Return equally weighted rows of the target's latents."""
    drawn = particles.resampled(_NUM_COMPARED, generator=generator).particles
    places = {each.name: each for each in drawn.columns}
    own = [places[variable.name] for variable in target.layout.latents]
    return drawn.latents[:, [c for v in own for c in range(v.start, v.stop)]]


def _redrawn_with(target: Target, name: str) -> set[str]:
    """Return a latent and what it descends from.

    What descends from these too where the factors of a model are not known apart.
    """
    graph = target.graph
    links = {each: {*graph.parents(each)} for each in graph.latents}
    if not isinstance(target, Model):
        for child in graph.latents:
            for parent in graph.parents(child):
                links.get(parent, set()).add(child)
    found, todo = set[str](), [name]
    while todo:
        each = todo.pop()
        if each in links and each not in found:
            found.add(each)
            todo += links[each]
    return found


def _rest(
    target: Target,
    rows: Float[Tensor, "row latent"],
    observed: Float[Tensor, " observed"],
    redrawn: Bool[Tensor, "row variable"],
) -> Float[Tensor, " row"]:
    """Return the log density of the data, and of latents that are not redrawn."""
    found = target.log_likelihood_terms(rows, observed.expand(len(rows), -1)).sum(-1)
    if isinstance(target, Model):
        terms = target.log_prior_terms(rows, observed.expand(len(rows), -1))
        found = found + torch.where(redrawn, 0.0, terms).sum(-1)
    return found

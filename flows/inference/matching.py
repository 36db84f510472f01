r"""This file fits normals to a posterior by its scores.

In free coordinates f with density p(f, x) a normal q = N(μ, Σ) is moved so that the
score ∇ log q is that of log p where q has its mass. With draws z of q, their scores
s = ∇ log p(z, x), means z̄ and s̄ and covariances C and Γ, the next normal minimises

    E |∇ log q - ∇ log p|²_Σ + (2/λ) KL(q_now || q),

which has a closed form:

    U = λ Γ + λ/(1+λ) s̄ s̄ᵀ,     V = Σ + λ C + λ/(1+λ) (μ - z̄)(μ - z̄)ᵀ,
    Σ' U Σ' + Σ' = V,           μ' = (μ + λ (Σ' s̄ + z̄)) / (1 + λ).

It needs no curvature at a point: a hierarchy, whose highest point says nothing of where
its mass is, is fitted as well as a normal can be. What a normal is worth is

    E_q [log p(f, x) - log q(f)],

at most the log evidence.

References:
    Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024), Batch and match:
    black-box variational inference with a score-based divergence,
    https://arxiv.org/abs/2402.14758
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .mixture import (
    Component,
    FreeTarget,
    Mixture,
    MixtureProposal,
    covariance_of,
    factor_of,
)
from .noise import standard_normal

__all__ = ["matched", "matched_mixture"]

_TURNS = 60
_FIRST_TURNS = 20
"""So long the steps are long; then ever shorter ones average."""
_ROWS = (200, 4)
"""Draws of a turn: at least so many, and so many for each coordinate."""
_SETTLED = 5
"""So many turns show whether a normal comes to one that is known."""
_KEPT = 0.9
"""Share of the draws that are looked at; those with the steepest scores are not."""
_JUDGED = 1_000
_FAR = 10.0
"""A normal that is worth so much less than the best one is left out, in nats."""
_CANDIDATES, _BEST = 1_000, 20
_FIRST_SPREAD = 0.3


def matched(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    location: Float[Tensor, " free"],
    factor: Float[Tensor, "free free"],
    *,
    generator: torch.Generator,
    is_over: Callable[[], bool] = lambda: False,
    known: Sequence[Component] = (),
) -> Component | None:
    """Return the normal that a first one is moved to; None if it finds no density.

    None as well once it comes to a known one that is worth as much, or has after its
    long steps come to nothing that would be kept beside the best of them.

    Its log mass is what it is worth, E_q [log p - log q].

    Args:
        target: The model.
        observed: The data.
        location: Mean of the first normal.
        factor: Lower triangular factor of its covariance.
        generator: Of the draws.
        is_over: Whether to end with what is found; asked at each turn.
        known: Normals found before.
    """
    size = len(location)
    num = max(_ROWS[0], _ROWS[1] * size)
    for turn in range(_TURNS):
        if is_over():
            break
        rows = location + standard_normal(num, size, generator=generator) @ factor.T
        values, scores = _scores(target, rows, observed)
        steep = (scores @ factor).square().sum(1)
        usable = values.isfinite() & steep.isfinite()
        if int(usable.sum()) < min(num // 4, 2 * size):
            return None
        worth = float(values[values.isfinite()].mean()) + _entropy(factor)
        if turn >= _SETTLED and _is_in_vain(location, worth, turn, known):
            return None
        usable &= steep <= steep[usable].quantile(_KEPT)
        weight = size / (1.0 if turn < _FIRST_TURNS else 1.0 + turn)
        location, factor = _moved(
            location, factor, rows[usable], scores[usable], weight
        )
    rows = standard_normal(_JUDGED, size, generator=generator)
    with torch.no_grad():
        values = target.log_joint_free(location + rows @ factor.T, observed)
    values = torch.where(values.isnan(), -math.inf, values)
    # A few draws without density do not make a normal worthless as a proposal.
    alive = values[values > -math.inf]
    if len(alive) < _KEPT * _JUDGED:
        return None
    return Component(location, factor, float(alive.mean()) + _entropy(factor))


def _entropy(factor: Tensor) -> float:
    """Return the entropy of a normal, in nats."""
    size = len(factor)
    spread = float(factor.diagonal().log().sum())
    return spread + 0.5 * size * math.log(2.0 * math.pi * math.e)


def _is_in_vain(
    location: Tensor, worth: float, turn: int, known: Sequence[Component]
) -> bool:
    """Return whether a normal on its way need not be moved further."""
    if any(each.log_mass >= worth and each.covers(location) for each in known):
        return True
    # Later turns are short: they bring some part of a nat for each coordinate.
    best = max((each.log_mass for each in known), default=-math.inf)
    return turn == _FIRST_TURNS and worth < best - _FAR - len(location)


def _moved(
    location: Tensor, factor: Tensor, rows: Tensor, scores: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Return mean and factor of the next normal; `weight` is λ."""
    place, score = rows.mean(0), scores.mean(0)
    spread, slopes = covariance_of(rows), covariance_of(scores)
    part = weight / (1.0 + weight)
    gap = location - place
    u = weight * slopes + part * torch.outer(score, score)
    v = factor @ factor.T + weight * spread + part * torch.outer(gap, gap)
    # V = R Rᵀ, Rᵀ U R = Q diag(e) Qᵀ:  Σ' = R Q diag(2 / (1 + √(1 + 4 e))) (R Q)ᵀ.
    root = factor_of(v)
    e, q = torch.linalg.eigh(root.T @ u @ root)
    turned = root @ q
    scale = 2.0 / (1.0 + (1.0 + 4.0 * e.clamp_min(0.0)).sqrt())
    covariance = (turned * scale) @ turned.T
    mean = (location + weight * (covariance @ score + place)) / (1.0 + weight)
    return mean, factor_of(covariance)


def matched_mixture(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    begun: Sequence[MixtureProposal],
    *,
    generator: torch.Generator,
    is_over: Callable[[], bool] = lambda: False,
) -> tuple[Mixture, float] | None:
    """Return a mixture of the normals found, and what the best is worth; or None.

    Args:
        target: The model.
        observed: The data.
        begun: Mixtures to begin from, in coordinates of their own; one more normal
            begins at the best draws of the prior.
        generator: Of the draws.
        is_over: Whether to end with what is found.
    """
    found: list[Component] = []
    for location, factor in _starts(target, observed, begun, generator):
        normal = matched(
            target,
            observed,
            location,
            factor,
            generator=generator,
            is_over=is_over,
            known=found,
        )
        if normal is not None and math.isfinite(normal.log_mass):
            found.append(normal)
    if not found:
        return None
    best = max(each.log_mass for each in found)
    kept: list[Component] = []
    for normal in sorted(found, key=lambda each: -each.log_mass):
        is_near = normal.log_mass >= best - _FAR
        if is_near and not any(each.covers(normal.location) for each in kept):
            kept.append(normal)
    return Mixture.of(kept), best


def _starts(
    target: FreeTarget,
    observed: Tensor,
    begun: Sequence[MixtureProposal],
    generator: torch.Generator,
) -> Sequence[tuple[Tensor, Tensor]]:
    """Return means and factors to begin from."""
    starts = []
    for part in (part for each in begun for part in each.components()):
        rows = part.rsample_and_log_prob(
            observed, _CANDIDATES, generator=generator
        ).latents
        free = _near(_free(target, rows))
        if len(free) > free.shape[1]:
            starts.append((free.mean(0), factor_of(covariance_of(free))))
    rows = target.sample_latents(_CANDIDATES, generator=generator, observed=observed)
    free = _free(target, rows)
    with torch.no_grad():
        values = target.log_joint_free(free, observed)
    values = torch.where(values.isnan(), -math.inf, values)
    if int((values > -math.inf).sum()) >= _BEST:
        best = free[values.topk(_BEST).indices].mean(0)
        low, high = free.quantile(torch.tensor([0.16, 0.84]).to(free), dim=0)
        width = (0.5 * _FIRST_SPREAD * (high - low)).clamp_min(1e-9)
        starts.append((best, width.diag()))
    return starts


def _free(target: FreeTarget, rows: Tensor) -> Tensor:
    """Return the free coordinates of the rows that have numbers there."""
    free, _ = target.unconstrain(rows[rows.isfinite().all(1)])
    return free[free.isfinite().all(1)]


def _near(free: Tensor) -> Tensor:
    """Return the rows nearest to the middle: tails in other coordinates have no end."""
    low, middle, high = free.quantile(torch.tensor([0.16, 0.5, 0.84]).to(free), dim=0)
    gap = ((free - middle) / (high - low).clamp_min(1e-300)).abs().amax(1)
    return free[gap <= gap.quantile(_KEPT)]


def _scores(
    target: FreeTarget, rows: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log p and its gradient at rows."""
    leaf = rows.detach().requires_grad_()
    values = target.log_joint_free(leaf, observed)
    (scores,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), scores

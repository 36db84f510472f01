r"""This file finds modes of a posterior, and makes a mixture of what lies around them.

In free coordinates f the log density log p(f, x) is climbed from draws of the prior
(`ascent`). Around each different mode m the curvature H = -∇² log p gives a normal
N(m, H⁻¹), Laplace's approximation; the mixture has Student's t of the same location and
scale. A mode counts by what Laplace's approximation says is its mass,

    log p(m, x) + (d / 2) log 2π - ½ log |H|.

References:
    Tierney and Kadane (1986), Accurate approximations for posterior moments and
    marginal densities, JASA 81.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .ascent import climbed
from .curvature import curvature
from .mixture import Component, FreeTarget, Mixture, factor_of

__all__ = ["laplace_mixture"]

_STARTS = 128
_FEW_STARTS = 12, 2
"""And blocks of draws that they are the best of."""
_BLOCK, _BLOCKS, _FEW = 512, 12, 12
"""Draws of the prior in a block, and how many blocks where latents are few."""
_SCARCE, _ABSURD, _NEAR = 0.1, 1e6, 2.0
"""The share of draws that is few, beyond what no data lie, how far from 0 starts are
then."""
_MOST_ROUNDS = 200
"""What climbs on after these climbs a spike without a top: a scale on its way to 0."""
_MOST_LOOKED_AT, _MOST_MODES = 24, 8
"""So many modes are looked at, the highest ones; so many of largest mass are kept."""
_FAR = 30.0
"""A mode with a log mass so far below the best one is left out, in nats."""


def laplace_mixture(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    *,
    generator: torch.Generator,
    is_over: Callable[[], bool] = lambda: False,
    is_dear: bool = False,
) -> Mixture | None:
    """Return a mixture around the modes that are found; None if there is none.

    Args:
        target: The model.
        observed: The data.
        generator: Source of the starting points.
        is_over: Whether the search is to end with what is found; asked at each step.
        is_dear: Whether the density is dear, and few starts are to do.
    """
    num_starts, blocks = _FEW_STARTS if is_dear else (_STARTS, _BLOCKS)
    ranked = _ranked(target, observed, generator, is_over, blocks)
    if not len(ranked):
        return None
    # Half of the starts are the best draws, half are spread over all of them: a basin
    # that the data hardly tell from another may have a small share of the prior.
    half = min(num_starts // 2, len(ranked))
    places = torch.linspace(0, len(ranked) - 1, num_starts - half).long()
    starts = torch.cat([ranked[:half], ranked[places]])

    def density(places: Tensor, _: Tensor) -> Tensor:
        return target.log_joint_free(places, observed)

    reached = climbed(density, starts, is_over=is_over, most_rounds=_MOST_ROUNDS)
    usable = reached.has_ended & torch.isfinite(reached.places).all(1)
    tops, heights = reached.places[usable], reached.heights[usable]
    modes: list[Component] = []
    for place in heights.argsort(descending=True).tolist():
        if len(modes) == _MOST_LOOKED_AT or is_over():
            break
        top = tops[place]
        if any(mode.covers(top) for mode in modes):
            continue
        bent = curvature(density, top.unsqueeze(0))
        if not bool(bent.scales.isfinite().all()):
            continue
        factor = factor_of(bent.inverse[0])
        mass = float(heights[place]) + float(factor.diagonal().log().sum())
        if math.isfinite(mass):
            modes.append(Component(top, factor, mass))
    if not modes:
        return None
    best = max(mode.log_mass for mode in modes)
    kept = sorted(
        (mode for mode in modes if mode.log_mass >= best - _FAR),
        key=lambda mode: -mode.log_mass,
    )
    return Mixture.of(kept[:_MOST_MODES])


def _ranked(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    generator: torch.Generator,
    is_over: Callable[[], bool],
    blocks: int,
) -> Float[Tensor, "row free"]:
    """Return draws of the prior by their density, the highest first.

    Of few latents many: a narrow mode may lie where one draw in a thousand is. Where
    hardly a draw has a density and a size that data have, as of a prior without a scale
    (gamma 0.001 0.001), places near 0 are looked at instead of the others.
    """
    rows, heights = [], []
    for _ in range(blocks):
        drawn = target.sample_latents(_BLOCK, generator=generator, observed=observed)
        free, _ = target.unconstrain(drawn[torch.isfinite(drawn).all(1)])
        places, values = _judged(target, free, observed)
        is_usual = places.abs().amax(1) < _ABSURD
        if int(is_usual.sum()) < _SCARCE * _BLOCK:
            near = torch.rand(_BLOCK, free.shape[1], generator=generator).to(free)
            more = _judged(target, _NEAR * (2.0 * near - 1.0), observed)
            places = torch.cat([places[is_usual], more[0]])
            values = torch.cat([values[is_usual], more[1]])
        rows.append(places)
        heights.append(values)
        if free.shape[1] > _FEW or is_over():
            break
    return torch.cat(rows)[torch.cat(heights).argsort(descending=True)]


@torch.no_grad()
def _judged(
    target: FreeTarget, free: Tensor, observed: Tensor
) -> tuple[Float[Tensor, "row free"], Float[Tensor, " row"]]:
    """Return the places that have a density, and it."""
    values = target.log_joint_free(free, observed)
    usable = torch.isfinite(values) & torch.isfinite(free).all(1)
    return free[usable], values[usable]

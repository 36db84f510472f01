r"""This file finds modes of a posterior, and makes a mixture of what lies around them.

In free coordinates f the log density log p(f, x) is climbed from draws of the prior
(L-BFGS). Around each different mode m the curvature H = -∇² log p gives a normal
N(m, H⁻¹), Laplace's approximation; the mixture has Student's t of the same location and
scale. A mode counts by what Laplace's approximation says is its mass,

    log p(m, x) + (d / 2) log 2π - ½ log |H|.

References:
    Tierney and Kadane (1986), Accurate approximations for posterior moments and
    marginal densities, JASA 81.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from .mixture import Component, FreeTarget, Mixture, factor_of

__all__ = ["laplace_mixture"]

_STARTS = 12
_CANDIDATES = 256
_MOST_STEPS = 200
_DIFFERENCE = 1e-4
_MOST_MODES = 8
_FAR = 30.0
"""A mode with a log mass so far below the best one is left out, in nats."""


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
    modes: list[Component] = []
    for start in starts:
        if is_over():
            break
        top = _climbed(target, observed, start, is_over)
        if top is None or any(mode.covers(top) for mode in modes):
            continue
        factor = _curvature_factor(target, observed, top)
        if factor is None:
            continue
        with torch.no_grad():
            height = float(target.log_joint_free(top.unsqueeze(0), observed)[0])
        mass = height + float(factor.diagonal().log().sum())
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
    return factor_of((vectors / scale) @ vectors.T)

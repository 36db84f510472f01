r"""This file climbs the bound of one data set by natural gradients.

Exact factors stay. A site of factor f in its predictors w has natural parameters
(precision P, linear term h); the natural gradient of the bound in them is the gradient
of E_q log f in mean parameters, so that a step of size r is

    P <- (1 - r) P - r E_q[f''],     h <- (1 - r) h + r (E_q[f'] - E_q[f''] E_q[w]),

with f' the slopes of log f and E_q f'' = Cov_q(w)^-1 E_q[(w - E w) f'^T], by Gauss
and Hermite in up to three predictors, by fixed normal points in more. What would make a
precision negative is left out. Steps that lower the bound, on fixed base points, are
halved.

References:
    Khan, Lin, "Conjugate-Computation Variational Inference", AISTATS 2017.
    Opper, Archambeau, "The Variational Gaussian Approximation Revisited", Neural
    Computation 2009 (f'').
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..flow.protocol import Flow
from ..model.model import Model
from ..model.standard_normal import standard_normal_log_prob
from .flow import StructuredGaussianFlow
from .separated import Separated
from .sites import Sites

__all__ = ["Bound", "Climb", "climb"]

_NODES = {1: 32, 2: 20, 3: 9}
"""Along each axis, by the number of predictors."""
_POINTS = 512
_BASE = 500
_LEAST_STEP = 2.0**-8
_MOST_STEPS = 200
_CONVERGED_NATS = 1e-5
_LEAST_PRECISION = 1e-6


@dataclass(frozen=True, slots=True)
class Climb:
    """Where a climb is.

    Args:
        iteration: steps that were tried.
        bound: E_q[log p(z, x) - log q(z)] on fixed base points, in nats.
        step: size of the next step.
    """

    iteration: int
    bound: float
    step: float


@torch.no_grad()
def climb(
    flow: StructuredGaussianFlow,
    model: Model,
    observed: Float[Tensor, " observed"],
    *,
    step: float = 1.0,
) -> Iterator[Climb]:
    """Climbs the bound; the flow is changed in place, and best after each report.

    Args:
        flow: of one data set, its normalisation fitted.
        model: that it is to be the posterior of.
        observed: the data.
        step: largest size of a step.
    """
    climber, height = _Climber(flow, model, observed), Bound(flow, model, observed)
    now = Climb(0, height.value(), step)
    yield now
    naturals = climber.naturals()
    while now.iteration < _MOST_STEPS and now.step >= _LEAST_STEP:
        kept = [each.clone() for each in flow.parameters()]
        targets = climber.targets()
        tried = [
            tuple(old + now.step * (new - old) for old, new in zip(*both, strict=True))
            for both in zip(naturals, targets, strict=True)
        ]
        climber.set_naturals(tried)
        bound, last = height.value(), now.bound
        if bound >= last - _CONVERGED_NATS or not np.isfinite(last):
            naturals = tried
            now = replace(now, iteration=now.iteration + 1, bound=bound)
            yield now
            if abs(bound - last) < _CONVERGED_NATS:
                return
        else:
            for parameter, value in zip(flow.parameters(), kept, strict=True):
                parameter.copy_(value)
            half = 0.5 * now.step
            now = replace(now, iteration=now.iteration + 1, step=half)


_Natural = tuple[Tensor, ...]
"""Precision and linear term of potentials of one form."""


class Bound:
    """The bound of a flow at one data set, on fixed base points.

    Args:
        flow: whose bound it is, whatever it becomes.
        model: the target.
        observed: the data.
    """

    def __init__(self, flow: Flow, model: Model, observed: Tensor) -> None:
        self._flow, self._model = flow, model.forgiving()
        half = flow.sample_base(_BASE, generator=torch.Generator().manual_seed(0))
        self._base = torch.cat([half, -half])
        self._data = observed.double().expand(2 * _BASE, -1)

    @torch.no_grad()
    def value(self) -> float:
        """E_q[log p(z, x) - log q(z)], in nats; -inf where it is no number."""
        draw = self._flow.from_base(self._base, self._data)
        target = self._model.log_joint_free(draw.free.double(), self._data)
        target = target + standard_normal_log_prob(draw.nuisances)
        found = float((target - draw.log_prob).mean())
        return found if np.isfinite(found) else -np.inf


class _Climber:
    def __init__(
        self, flow: StructuredGaussianFlow, model: Model, observed: Tensor
    ) -> None:
        self.flow, self.scaling = flow, flow.potentials
        self.model, self.observed = model.forgiving(), observed.double()
        self.apart = Separated.of(model.graph, model.layout)
        learned = [
            number
            for number, each in enumerate(flow.structure.potentials)
            if not each.is_exact
        ]
        place = {number: at for at, number in enumerate(learned)}
        self.groups = [
            (sites, [place[number] for number in numbers])
            for sites, numbers in self.scaling.members()
            if not sites.is_exact
        ]

    def naturals(self) -> list[_Natural]:
        """What the potentials are now."""
        return [sites.natural(self.observed[None]) for sites, _ in self.groups]

    def set_naturals(self, naturals: list[_Natural]) -> None:
        """Makes them others."""
        for (sites, _), (precision, linear) in zip(self.groups, naturals, strict=True):
            sites.set_natural(precision, linear)

    def targets(self) -> list[_Natural]:
        """What steps of size one lead to."""
        cliques = self.scaling.moments(self.observed[None])
        latents = self.scaling.latent_scaling
        found = []
        for sites, numbers in self.groups:
            mean, spread = sites.moments(self.observed[None], latents, cliques)
            found.append(self._target(sites, numbers, mean[0], spread[0]))
        return found

    def _target(
        self, sites: Sites, numbers: list[int], mean: Tensor, spread: Tensor
    ) -> _Natural:
        k = mean.shape[-1]
        points, weights = _points(k)
        root = torch.linalg.cholesky(spread)
        moved = mean + (root @ points[:, None, :, None])[..., 0]
        with torch.enable_grad():
            unit = moved.requires_grad_()
            raw = sites.predictor_shift + sites.predictor_scale * unit
            terms = self.apart.log_factors(numbers, raw, self.observed)
            if not terms.requires_grad:
                raise self._without_slope(numbers[0])
            (slopes,) = torch.autograd.grad(terms.sum(), unit)
        slope = torch.einsum("g,gnk->nk", weights, slopes)
        across = torch.einsum("g,gj,gnk->njk", weights, points, slopes)
        curvature = torch.linalg.solve_triangular(root.mT, across, upper=True)
        values, vectors = torch.linalg.eigh(-0.5 * (curvature + curvature.mT))
        values = values.clamp_min(_LEAST_PRECISION)
        precision = (vectors * values.unsqueeze(-2)) @ vectors.mT
        return precision, slope + (precision @ mean.unsqueeze(-1))[..., 0]

    def _without_slope(self, number: int) -> ArgumentError:
        name = self.apart.names[number]
        return ArgumentError.at(
            "structured-gaussian, one data set",
            "a factor has no slopes in its latents",
            "link functions that can be differentiated",
            self.model.graph.labels[name],
        )


def _points(k: int) -> tuple[Tensor, Tensor]:
    """Points of a standard normal vector, and their weights."""
    if k in _NODES:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES[k])
        total = torch.tensor(weights / weights.sum())
        points = torch.cartesian_prod(*[torch.tensor(nodes)] * k).reshape(-1, k)
        weight = torch.cartesian_prod(*[total] * k).reshape(-1, k).prod(-1)
        return points, weight
    generator = torch.Generator().manual_seed(k)
    half = torch.randn(_POINTS // 2, k, generator=generator, dtype=torch.float64)
    points = torch.cat([half, -half])
    # of unit covariance exactly, so that a quadratic factor is met exactly
    root = torch.linalg.cholesky(points.T @ points / len(points))
    points = torch.linalg.solve_triangular(root, points.T, upper=False).T
    return points, torch.full((len(points),), 1.0 / len(points), dtype=torch.float64)

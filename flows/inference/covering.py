r"""This file covers a posterior with many small normals, temperature by temperature.

What bends, a ridge or a ring, is no normal, and no step gets far along it; but pieces
of it are normals, and a mixture of pieces is drawn from at once. Between prior π and
posterior lie, in free coordinates f, π(f) p(x | f)^β. Draws of a mixture that covers
one of them are weighted by the next one, of a β as large as leaves a share of their
effective sample size; the weighted draws are split into cells, near to near, and each
cell's mean and covariance make a component of the next mixture. A part of the cells is
of a power of the density instead, which is flatter: ends of a ridge lie where it bends
to, not where the last piece points.

References:
    Givens, Raftery (1996), Local adaptive importance sampling for multivariate
    densities with strong nonlinear relationships, JASA 91.
    Cappé, Guillin, Marin, Robert (2004), Population Monte Carlo, JCGS 13.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .mixture import FreeTarget, Mixture, covariance_of, factor_of
from .resampling import resample

__all__ = ["covering"]

_ROWS = 6_000
_CELLS = 100
_ROWS_OF_A_CELL = 10
"""At least so many rows for each coordinate."""
_LEAST_SHARE = 0.2
_BISECTIONS = 40
_PATIENCE = 3
"""So many mixtures are made without a step: at the posterior, the better for it."""
_SPLITS = 4
_WIDER = 1.2
_FLAT, _FLAT_SHARE = 0.25, 0.3
"""The power of the flatter density, and the share of draws that is of it."""


def covering(
    target: FreeTarget,
    observed: Float[Tensor, " observed"],
    *,
    generator: torch.Generator,
    is_over: Callable[[], bool] = lambda: False,
) -> Mixture | None:
    """Return a mixture that covers a posterior; None if the way to it is lost.

    Args:
        target: The model.
        observed: The data.
        generator: Of all draws.
        is_over: Whether to give up; asked at each temperature.
    """
    latents = target.sample_latents(_ROWS, generator=generator, observed=observed)
    free, _ = target.unconstrain(latents[torch.isfinite(latents).all(1)])
    free = free[torch.isfinite(free).all(1)]
    log_prior, log_likelihood = _parts(target, free, observed)
    log_drawn = log_prior
    temperature, patience = 0.0, _PATIENCE
    while not is_over() and int(log_likelihood.isfinite().sum()) > _CELLS:
        now = _next(temperature, log_prior - log_drawn, log_likelihood)
        height = _height(now, log_prior, log_likelihood)
        patience -= now == temperature
        temperature = now
        mixture = _joined(
            _cells(free, height - log_drawn, generator),
            _cells(free, _FLAT * height - log_drawn, generator),
        )
        if not patience:
            return mixture if temperature == 1.0 else None
        free = mixture.sample(_ROWS, generator=generator)
        log_drawn = mixture.log_prob(free)
        log_prior, log_likelihood = _parts(target, free, observed)
    return None


def _parts(target: FreeTarget, free: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Return log prior and log likelihood of rows; 0 and -inf where one is none."""
    with torch.no_grad():
        latents, log_det = target.constrain(free)
        log_prior = target.log_prior(latents, observed) + log_det
        log_likelihood = target.log_joint_free(free, observed) - log_prior
    usable = torch.isfinite(log_prior) & torch.isfinite(log_likelihood)
    return (
        torch.where(usable, log_prior, 0.0),
        torch.where(usable, log_likelihood, -math.inf),
    )


def _height(temperature: float, log_prior: Tensor, log_likelihood: Tensor) -> Tensor:
    """Return log density; at temperature 0 too -inf where there is no likelihood."""
    is_there = log_likelihood > -math.inf
    return torch.where(is_there, log_prior + temperature * log_likelihood, -math.inf)


def _next(last: float, log_base: Tensor, log_likelihood: Tensor) -> float:
    """Return the largest temperature, `last` or above, that leaves enough weight.

    Args:
        last: The temperature so far.
        log_base: Log weights without the likelihood.
        log_likelihood: Of the rows.
    """
    alive = log_likelihood > -math.inf
    base, growth = log_base[alive], log_likelihood[alive]

    def keeps(temperature: float) -> bool:
        weights = (base + temperature * growth).softmax(0)
        effective = 1.0 / float(weights.square().sum())
        return effective >= _LEAST_SHARE * len(log_base)

    if keeps(1.0):
        return 1.0
    low, high = last, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _cells(free: Tensor, log_weights: Tensor, generator: torch.Generator) -> Mixture:
    """Return a mixture with a component for each cell of weighted rows."""
    size = free.shape[1]
    rows = free[resample(log_weights, _ROWS, scheme="systematic", generator=generator)]
    scaled = rows / rows.std(0).clamp_min(1e-300)
    num = min(_CELLS, _ROWS // (_ROWS_OF_A_CELL * size))
    centres = scaled[torch.randperm(_ROWS, generator=generator)[:num]]
    for _ in range(_SPLITS):
        cell = torch.cdist(scaled, centres).argmin(1)
        counts = torch.bincount(cell, minlength=num).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add(0, cell, scaled)
        centres = torch.where(counts > 0, sums / counts, centres)
    cell = torch.cdist(scaled, centres).argmin(1)
    parts = [rows[cell == k] for k in range(num)]
    parts = [part for part in parts if len(part) > 2 * size + 1] or [rows]
    around = [_around(part, rows) for part in parts]
    shares = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    return Mixture(
        (shares / shares.sum()).log(),
        torch.stack([part.mean(0) for part in parts]),
        torch.stack([_WIDER * factor_of(covariance_of(part)) for part in around]),
    )


def _around(part: Tensor, rows: Tensor) -> Tensor:
    """Return the rows that say how wide a cell is: its own, or those nearest to it.

    Copies of one heavy row have no width.
    """
    enough = 2 * rows.shape[1] + 2
    if len(torch.unique(part, dim=0)) >= enough:
        return part
    others: Tensor = torch.unique(rows, dim=0)
    gaps = (others - part.mean(0)) / rows.std(0).clamp_min(1e-300)
    return others[gaps.square().sum(1).argsort()[: 2 * enough]]


def _joined(narrow: Mixture, flat: Mixture) -> Mixture:
    """Return the mixture of the cells of a density and of a flatter one."""
    return Mixture(
        torch.cat(
            [
                narrow.log_shares + math.log1p(-_FLAT_SHARE),
                flat.log_shares + math.log(_FLAT_SHARE),
            ]
        ),
        torch.cat([narrow.locations, flat.locations]),
        torch.cat([narrow.factors, flat.factors]),
    )

r"""This file finds directions of data by draws: all alike, or where latents bend.

With u the data in coordinates in which they have covariance I, and r what a linear
regression on u leaves of a latent, the curvature of E[r | u] is seen by

    M = E[r u u^T],

whose eigenvectors are the principal Hessian directions: a latent on which the scale of
some of the data depends, as that of noise or of effects, bends along these and no
other. A square or product of two r has such a matrix too.

References:
    Li, "On principal Hessian directions for data visualization and dimension
    reduction", Journal of the American Statistical Association 87, 1992.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MOST_NUMBERS", "Forms", "principal_forms", "usable", "whitening"]

MOST_NUMBERS = 1_000
"""Whose directions are looked for; the work grows with the cube."""
_FARTHEST_SCALED = 10.0
"""From 0 in scaled numbers, beyond which a draw counts as there."""
_LEAST_SHARE = 1e-6
"""Of the largest variance: no direction counts as narrower."""
_FARTHEST = 5.0
"""From 0 in standard deviations, beyond which a draw counts as there."""
_MOST_RESPONSES = 36
"""A residual, or a product of two, has a matrix each."""
_MOST_FOR_PRODUCTS = 100
"""Numbers, beyond which residuals alone are looked at."""
_MOST_FOR_ANY = 500
"""Numbers, beyond which directions are random."""
_BENT = 1.5
"""Times the norm of a matrix whose responses have random signs: there is curvature."""
_FOLLOWED = 2 / 3
"""Of the forms, that begin as the parts of a latent's matrix."""
_FLOOR = 1e-3
"""Of a form's largest weight: none begins with less, or it could not grow."""


@dataclass(frozen=True, slots=True)
class Forms:
    """Quadratic forms of numbers u: the k-th is sum_d weights_dk (directions_d . u)^2.

    Args:
        directions: [number, direction], each of length 1.
        weights: [direction, form], none below 0; they add up to 1 for each form.
    """

    directions: Float[Tensor, "number direction"]
    weights: Float[Tensor, "direction form"]


def usable(rows: Float[Tensor, "draw number"]) -> Float[Tensor, "row number"]:
    """Rows of numbers alone, in double precision, none far out.

    Args:
        rows: draws of scaled numbers.

    Example:
        >>> usable(torch.tensor([[1.0, 1e30], [2.0, torch.nan]])).tolist()
        [[1.0, 10.0]]
    """
    doubles = rows.double()
    finite = doubles[doubles.isfinite().all(1)]
    return finite.clamp(-_FARTHEST_SCALED, _FARTHEST_SCALED)


def whitening(
    covariance: Float[Tensor, "number number"], draws: int
) -> Float[Tensor, "number number"]:
    """C^-1/2, but that no direction counts as narrower than draws can tell.

    Args:
        covariance: C, of draws.
        draws: how many.

    Example:
        >>> float(whitening(torch.tensor([[4.0]], dtype=torch.float64), 10_000))
        0.5
    """
    spread, turn = torch.linalg.eigh(covariance)
    least = _LEAST_SHARE * spread[-1] + (len(covariance) / draws) ** 2
    white: Tensor = (turn / spread.clamp(min=least).sqrt()) @ turn.T
    return white


def principal_forms(
    white: Float[Tensor, "draw number"],
    latents: Float[Tensor, "draw latent"],
    num_directions: int,
    num_forms: int,
    generator: torch.Generator,
) -> Forms:
    """Quadratic forms along principal Hessian directions of latents.

    Most forms are the parts above and below 0 of a latent's matrix, of those that bend
    most first; the others add up directions that lie side by side in the order of their
    curvature. Where nothing bends directions are random.

    Args:
        white: draws of data in coordinates of mean 0 and covariance I.
        latents: scaled values of latents, drawn with them.
        num_directions: how many directions, no fewer than forms.
        num_forms: how many forms.
        generator: of what is random.
    """
    bent = _curvatures(white, latents, generator)
    directions = _directions(bent, num_directions, generator)
    parts = []
    for matrix in bent:
        along = (directions * (matrix @ directions)).sum(0)
        parts += [along.clamp(min=0.0), (-along).clamp(min=0.0)]
    parts = [part for part in parts if float(part.sum()) > 0.0]
    parts = parts[: math.ceil(_FOLLOWED * num_forms)]
    rest = num_forms - len(parts)
    places = torch.arange(num_directions) * rest // num_directions
    side_by_side = (places[:, None] == torch.arange(rest)).to(white)
    weights = torch.cat([*(part[:, None] for part in parts), side_by_side], 1)
    weights = weights + _FLOOR * weights.amax(0)
    return Forms(directions, weights / weights.sum(0))


def _curvatures(
    white: Tensor, latents: Tensor, generator: torch.Generator
) -> Float[Tensor, "matrix number number"]:
    """Matrices M of residuals and their products, of those that bend, most first.

    A response of random signs bends nowhere: its matrix has the norm of mere noise,
    whatever the tails of the data and however their spread goes with the response.
    """
    draws, width = white.shape
    found: list[tuple[float, Tensor]] = []
    left = latents - latents.mean(0)
    # White data have covariance I or less, so that slopes are nearly these.
    left = left - white @ (white.T @ left / (draws - 1))
    near = white.clamp(-_FARTHEST, _FARTHEST).float()
    for response in _responses(_standardised(left), width):
        own = _standardised(response).float()
        signs = 2.0 * torch.randint(2, (draws,), generator=generator).to(own) - 1.0
        matrix, noise = (
            (near * each[:, None]).T @ near / draws for each in (own, own * signs)
        )
        ratio = _norm(matrix) / max(_norm(noise), 1e-30)
        if ratio > _BENT:
            found.append((ratio, matrix.to(white)))
    found.sort(key=lambda each: -each[0])
    none = white.new_zeros(0, width, width)
    return torch.cat([none, *(matrix[None] for _, matrix in found)])


def _norm(matrix: Tensor) -> float:
    """The largest size of an eigenvalue."""
    return float(torch.linalg.eigvalsh(matrix).abs().amax())


def _responses(residuals: Tensor, width: int) -> Iterator[Tensor]:
    """Residuals of latents, then products of two where these are not too many."""
    count = residuals.shape[1]
    if width > _MOST_FOR_ANY:
        return
    yield from residuals.T[:_MOST_RESPONSES]
    together = count * (count + 3) // 2
    if together <= _MOST_RESPONSES and width <= _MOST_FOR_PRODUCTS:
        for one, other in combinations_with_replacement(range(count), 2):
            yield residuals[:, one] * residuals[:, other]


def _standardised(values: Tensor) -> Tensor:
    """Values of mean 0 and variance 1 but for those far out, which count as nearer."""
    apart = values - values.mean(0)
    return (apart / apart.std(0).clamp(min=1e-30)).clamp(-_FARTHEST, _FARTHEST)


def _directions(bent: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Eigenvectors of random combinations of matrices, ordered by their eigenvalues.

    Of each combination those of the largest eigenvalues, two combinations or more.
    """
    found: list[Tensor] = []
    width, left = bent.shape[-1], num
    while left:
        if len(bent):
            shares = torch.randn(len(bent), generator=generator).to(bent)
            values, turn = torch.linalg.eigh(torch.tensordot(shares, bent, 1))
            most = min(left, width, max(1, num // 2))
            kept = values.abs().argsort(descending=True)[:most].sort().values
            turn = turn[:, kept]
        else:
            turn = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
            turn = turn[:, :left].to(bent)
        found.append(turn)
        left -= turn.shape[1]
    return torch.cat(found, 1)

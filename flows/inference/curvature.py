"""This file measures how a log density bends at places, by differences of slopes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Curvature", "curvature"]

_DIFFERENCE = 1e-4
_MOST_NUMBERS = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """H = -∇² log p = V diag(scales) Vᵀ at places, scales being positive.

    A direction in which the density does not fall is given the width of the flattest
    one in which it does.

    Attributes:
        scales: Of each direction; nan where the density has no slopes.
        vectors: V, a direction in each column.
    """

    scales: Float[Tensor, "*row free"]
    vectors: Float[Tensor, "*row free free"]

    @property
    def inverse(self) -> Float[Tensor, "*row free free"]:
        """H⁻¹, the covariances of Laplace's approximation."""
        return (self.vectors / self.scales.unsqueeze(-2)) @ self.vectors.mT

    def view(self, *shape: int) -> "Curvature":
        """Return the same at places in another arrangement."""
        size = self.scales.shape[-1]
        vectors = self.vectors.view(*shape, size, size)
        return Curvature(self.scales.view(*shape, size), vectors)

    def at(self, *index: Tensor) -> "Curvature":
        """Return the curvature at some of the places."""
        return Curvature(self.scales[index], self.vectors[index])

    def whitened(self, gaps: Float[Tensor, "*row free"]) -> Float[Tensor, "*row free"]:
        """Return z with |z|² = gapᵀ H gap."""
        turned = (self.vectors.mT @ gaps.unsqueeze(-1)).squeeze(-1)
        return self.scales.sqrt() * turned

    def unwhitened(self, z: Float[Tensor, "*row free"]) -> Float[Tensor, "*row free"]:
        """Return the gaps of z: of covariance H⁻¹ if z has the identity."""
        turned = self.scales.rsqrt() * z
        return (self.vectors @ turned.unsqueeze(-1)).squeeze(-1)


def curvature(
    log_density: Callable[[Tensor, Tensor], Tensor],
    places: Float[Tensor, "row free"],
) -> Curvature:
    """Return the curvature at each place.

    Args:
        log_density: Of places and the numbers of their rows; differentiable.
        places: One in each row.

    Example:
        >>> import torch
        >>> bent = curvature(
        ...     lambda x, _: -2.0 * x.square().sum(1), torch.zeros(1, 2).double()
        ... )
        >>> bent.scales.round(decimals=6).tolist()
        [[4.0, 4.0]]
    """
    size = places.shape[1]
    step = max(1, _MOST_NUMBERS // max(1, 2 * size * size))
    rows = torch.arange(len(places))
    parts = [
        _curvature(log_density, some, which)
        for some, which in zip(
            torch.split(places, step), torch.split(rows, step), strict=True
        )
    ]
    return Curvature(
        torch.cat([part.scales for part in parts]),
        torch.cat([part.vectors for part in parts]),
    )


def _curvature(
    log_density: Callable[[Tensor, Tensor], Tensor], places: Tensor, rows: Tensor
) -> Curvature:
    size = places.shape[1]
    step = _DIFFERENCE * (1.0 + places.abs())
    moves = torch.diag_embed(step)
    around = torch.stack([places.unsqueeze(1) + moves, places.unsqueeze(1) - moves])
    with torch.enable_grad():
        leaf = around.view(-1, size).requires_grad_()
        values = log_density(leaf, rows.repeat_interleave(size).repeat(2))
        (slopes,) = torch.autograd.grad(values.sum(), leaf)
    ahead, behind = slopes.view(around.shape)
    found = (behind - ahead) / (2.0 * step.unsqueeze(-1))
    found = 0.5 * (found + found.mT)
    is_known = found.isfinite().flatten(1).all(1)
    identity = torch.eye(size, dtype=places.dtype)
    known = torch.where(is_known[:, None, None], found, identity)
    scales, vectors = torch.linalg.eigh(known)
    most = scales.abs().amax(-1, keepdim=True)
    positive = torch.where(scales > 1e-10 * most, scales, torch.inf)
    least = positive.amin(-1, keepdim=True)
    least = torch.where(least.isinf(), 1.0, least)
    scales = torch.maximum(scales, 0.25 * least)
    return Curvature(torch.where(is_known[:, None], scales, torch.nan), vectors)

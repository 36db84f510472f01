r"""This file is the radial layer: a pull to or a push from a point z0.

With r = |z - z0| and h = 1 / (alpha + r),

    f(z) = z + beta h (z - z0),
    |det df/dz| = (1 + beta h)^(D - 1) (1 + beta h - beta r h^2),

invertible if beta >= -alpha. Numbers give alpha = log(1 + e^.) and the sum
g = alpha + beta = log(1 + e^.), so that both factors are ratios of positive terms,

    1 + beta h = (r + g) / (r + alpha),
    1 + beta h - beta r h^2 = (r^2 + 2 alpha r + alpha g) / (r + alpha)^2.

The inverse: R = |f(z) - z0| is r (r + g) / (r + alpha), so r is the positive root of
r^2 + (g - R) r - alpha R.

Source: section 4.1 and appendix A.2 of the paper that `chain.py` names.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Radial"]

_ONE = 0.541324854612918
"""log(e - 1), where log(1 + e^.) is one."""
_FIRST_PUSH = 0.1


class Radial:
    """One layer; its numbers are z0, and those that give alpha and alpha + beta."""

    def width(self, size: int) -> int:
        """How many numbers a layer of so many dimensions has."""
        return size + 2

    def first(
        self, size: int, generator: torch.Generator | None
    ) -> Float[Tensor, " number"]:
        """Numbers at first: nearly the identity, around a random point."""
        centre = torch.randn(size, generator=generator)
        push = _FIRST_PUSH * torch.randn(2, generator=generator)
        return torch.cat([centre, _ONE + push])

    def parts(
        self, size: int, numbers: Float[Tensor, "*batch number"]
    ) -> tuple[Tensor, ...]:
        """z0, alpha and alpha + beta."""
        centre, alpha, total = torch.split(numbers, [size, 1, 1], -1)
        return centre, softplus(alpha).squeeze(-1), softplus(total).squeeze(-1)

    def to_latent(
        self, base: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """F of base points, with |det df|."""
        centre, alpha, total = parts
        away = base - centre
        r = torch.linalg.vector_norm(away, dim=-1)
        factor = (r + total) / (r + alpha)
        moved = centre + factor.unsqueeze(-1) * away
        return moved, _det(base.shape[-1], r, alpha, total)

    def to_base(
        self, latent: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """The points of which f is given, with |det df| there."""
        centre, alpha, total = parts
        away = latent - centre
        moved = torch.linalg.vector_norm(away, dim=-1)
        half = 0.5 * (total - moved)
        root = (half.square() + alpha * moved).sqrt()
        # Of the two forms the one that adds terms of equal signs.
        r = torch.where(half > 0.0, alpha * moved / (root + half.abs()), root - half)
        factor = (r + alpha) / (r + total)
        back = centre + factor.unsqueeze(-1) * away
        return back, _det(latent.shape[-1], r, alpha, total)


def _det(size: int, r: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
    along = (r * (r + 2.0 * alpha) + alpha * total) / (r + alpha).square()
    return ((r + total) / (r + alpha)) ** (size - 1) * along

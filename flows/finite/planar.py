r"""This file is the planar layer: a push along u across the hyperplane w z + b = 0.

    f(z) = z + u tanh(w z + b),      |det df/dz| = 1 + (w u) (1 - tanh^2(w z + b)).

It is invertible if w u >= -1, for which u is replaced by u + (m(w u) - w u) w / |w|^2
with m(a) = -1 + log(1 + e^a). With g = log(1 + e^(w u)) and t = tanh(w z + b) the
determinant is g + (1 - g) t^2, positive however near the bound it is.

The inverse in any dimension is a root on a line: s = w f(z) is a + (g - 1) tanh(a + b)
of a = w z, increasing in a, whose root lies within |g - 1| of s. Newton's steps that
leave the bracket, and some others, are halvings. One more step carries the gradient.

In one dimension (w, u, b) and (-w, -u, -b) are the same layer; w is taken positive, so
that a network that gives w does not cross the layer's singularity at w = 0.

Source: section 4.1 and appendix A.1 of the paper that `chain.py` names.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Planar"]

_IDENTITY = 0.541324854612918
"""log(e - 1), where m is zero."""
_FIRST_PUSH = 0.1
_FIRST_REACH = 2.0
_MOST_STEPS = 200
_HALVED = 4
"""Of so many steps one halves the bracket, between whose ends Newton's may go on."""
_ROUNDINGS = 4.0


class Planar:
    """One layer; its numbers are u, w and b."""

    def width(self, size: int) -> int:
        """How many numbers a layer of so many dimensions has."""
        return 2 * size + 1

    def first(
        self, size: int, generator: torch.Generator | None
    ) -> Float[Tensor, " number"]:
        """Numbers at first: nearly the identity, at a random hyperplane."""
        w = torch.randn(size, generator=generator)
        raw = w.abs().expm1().log() if size == 1 else w
        push = _FIRST_PUSH * torch.randn(size, generator=generator)
        w = w.abs() if size == 1 else w
        b = _FIRST_REACH * (2.0 * torch.rand(1, generator=generator) - 1.0)
        return torch.cat([_IDENTITY * w / w.square().sum() + push, raw, b])

    def parts(
        self, size: int, numbers: Float[Tensor, "*batch number"]
    ) -> tuple[Tensor, ...]:
        """U that is invertible, w, b, and g = 1 + w u."""
        u, w, b = torch.split(numbers, [size, size, 1], -1)
        if size == 1:
            w = softplus(w)
        inner = (w * u).sum(-1, keepdim=True)
        gain = softplus(inner)
        u = u + (gain - 1.0 - inner) * w / w.square().sum(-1, keepdim=True)
        return u, w, b.squeeze(-1), gain.squeeze(-1)

    def to_latent(
        self, base: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """F of base points, with |det df|."""
        u, w, b, gain = parts
        t = torch.tanh((w * base).sum(-1) + b)
        return base + u * t.unsqueeze(-1), gain + (1.0 - gain) * t.square()

    def to_base(
        self, latent: Float[Tensor, "*batch size"], parts: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "*batch size"], Float[Tensor, "*batch"]]:
        """The points of which f is given, with |det df| there."""
        u, w, b, gain = parts
        along = (w * latent).sum(-1)
        with torch.no_grad():
            root = _root(along, gain, b)
            slope = gain + (1.0 - gain) * torch.tanh(root + b).square()
        miss = root + (gain - 1.0) * torch.tanh(root + b) - along
        t = torch.tanh(root - miss / slope + b)
        return latent - u * t.unsqueeze(-1), gain + (1.0 - gain) * t.square()


def _root(along: Tensor, gain: Tensor, b: Tensor) -> Tensor:
    """A with a + (gain - 1) tanh(a + b) = along, to rounding."""
    push = gain - 1.0
    low, high = along - push.abs(), along + push.abs()
    root = along - push * torch.tanh(along + b)
    rounding = _ROUNDINGS * torch.finfo(along.dtype).eps
    is_open = torch.ones_like(root, dtype=torch.bool)
    for number in range(1, 1 + _MOST_STEPS):
        t = torch.tanh(root + b)
        miss = root + push * t - along
        is_above = miss > 0.0
        high, low = torch.where(is_above, root, high), torch.where(is_above, low, root)
        step = root - miss / (gain - push * t * t)
        is_good = (step >= low) & (step <= high) & (number % _HALVED != 0)
        step = torch.where(is_good, step, 0.5 * (low + high))
        is_open &= (step - root).abs() > rounding * (1.0 + root.abs())
        if not bool(is_open.any()):
            break
        root = torch.where(is_open, step, root)
    return root

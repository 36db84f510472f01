"""This file is the log density of many normals with few parameters, part by part.

    log N(x_n | m_k, s_k) = -z² / 2 - log s_k - log √(2π),     z = (x_n - m_k) / s_k.

Values are gone through a few at a time, so that all but the result stays in the
processor's cache; gradients need z again, which is cheaper than to keep it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..model.standard_normal import HALF_LOG_TWO_PI

__all__ = ["normals"]

_AT_ONCE = 2**15
"""Numbers of a part."""


def normals(
    x: Float[Tensor, "1 node row"],
    mean: Float[Tensor, "form 1 row"],
    scale: Float[Tensor, "form 1 row"],
) -> Float[Tensor, "form node row"]:
    """Return the log densities of all values, at all parameters."""
    found: Tensor = _Normals.apply(x, mean, scale)  # type: ignore[no-untyped-call]
    return found


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the values of each part."""
    forms, nodes, rows = shape
    step = max(1, _AT_ONCE // max(1, forms * rows))
    return (slice(first, first + step) for first in range(0, nodes, step))


class _Normals(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        shape = np.broadcast_shapes(x.shape, mean.shape, scale.shape)
        ctx.save_for_backward(x, mean, scale)
        constant = -HALF_LOG_TWO_PI - torch.log(scale)
        wide, inverse = mean.expand(shape[0], -1, shape[2]), 1.0 / scale
        found = x.new_empty(shape)
        for part in _parts(shape):
            z = found[:, part]
            torch.sub(x[:, part], wide, out=z)
            z.mul_(inverse)
            torch.addcmul(constant, z, z, value=-0.5, out=z)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale = ctx.saved_tensors
        to_x = (
            gradient.new_zeros(gradient.shape[1:]) if ctx.needs_input_grad[0] else None
        )
        to_mean = gradient.new_zeros(len(gradient), 1, gradient.shape[2])
        to_scale = torch.zeros_like(to_mean)
        inverse = 1.0 / scale
        for part in _parts(gradient.shape):
            z = x[:, part].sub(mean).mul(inverse)
            slope = gradient[:, part] * z
            to_mean += slope.sum(1, keepdim=True)
            if to_x is not None:
                to_x[part] = -(slope / scale).sum(0)
            if ctx.needs_input_grad[2]:
                to_scale += (slope.mul_(z) - gradient[:, part]).sum(1, keepdim=True)
        return (
            None if to_x is None else to_x.unsqueeze(0).sum_to_size(x.shape),
            (to_mean / scale).sum_to_size(mean.shape),
            (to_scale / scale).sum_to_size(scale.shape),
        )

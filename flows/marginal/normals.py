"""This file is the log density of many normals with few parameters, in few passes.

    log N(x_n | m_k, s_k) = -z² / 2 - log s_k - log √(2π),     z = (x_n - m_k) / s_k.

Its memory is z and the result; gradients are sums over z alone.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..model.standard_normal import HALF_LOG_TWO_PI

__all__ = ["normals"]


def normals(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return the log densities of values, of shapes that broadcast."""
    if torch.is_grad_enabled() and (mean.requires_grad or scale.requires_grad):
        found: Tensor = _Normals.apply(x, mean, scale)  # type: ignore[no-untyped-call]
        return found
    return _density(_standardised(x, mean, scale), scale)


def _standardised(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    shape = np.broadcast_shapes(x.shape, mean.shape, scale.shape)
    return x.sub(mean).expand(shape).div(scale)


def _density(z: Tensor, scale: Tensor) -> Tensor:
    return z.mul(z).mul_(-0.5).sub_(torch.log(scale) + HALF_LOG_TWO_PI)


class _Normals(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        z = _standardised(x, mean, scale)
        ctx.save_for_backward(z, scale)
        ctx.shapes = x.shape, mean.shape
        return _density(z, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, scale = ctx.saved_tensors
        slope = gradient * z
        found: list[Tensor | None] = [None, None, None]
        if ctx.needs_input_grad[0]:
            found[0] = -(slope / scale).sum_to_size(ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            # Along what shares a scale it is divided by that once.
            shape = np.broadcast_shapes(ctx.shapes[1], scale.shape)
            found[1] = (slope.sum_to_size(shape) / scale).sum_to_size(ctx.shapes[1])
        if ctx.needs_input_grad[2]:
            own = slope * z - gradient
            found[2] = own.sum_to_size(scale.shape) / scale
        return tuple(found)

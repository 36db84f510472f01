"""This file sums log densities over many slots without keeping them.

A group of n densities in B rows takes n · B numbers per intermediate result, more than
a processor's cache holds. Here the sum over slots is formed block by block, every block
small enough to stay in the cache, and the gradient with it: what is kept for the
backward pass is at most one tensor per argument. The normal density, by far the most
frequent, has its sum and gradient written out:

    Σ_i log N(x_i; m_i, s_i) = -½ Σ r_i² - Σ log s_i - n log √(2π),   r = (x - m) / s
    ∂/∂m = r / s,   ∂/∂x = -r / s,   ∂/∂s = (r² - 1) / s
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .standard_normal import HALF_LOG_TWO_PI

__all__ = ["density_total", "linear_normal_total"]

_BLOCK = 65_536
"""Numbers per block; 512 KiB in float64."""

_SMALL = 32_768
"""Sums over fewer numbers are formed directly."""


def density_total(
    family: str, kernel: Callable[..., Tensor], arguments: Sequence[Tensor]
) -> Tensor:
    """Return the sum over slots of `kernel(*arguments)`, of shape [row].

    Args:
        family: The family that `kernel` evaluates.
        kernel: Takes tensors [slot, ..., row], returns [slot, row].
        arguments: Its arguments.
    """
    slots = max(argument.shape[0] for argument in arguments)
    rows = max(argument.shape[-1] for argument in arguments)
    numbers = slots * rows * max(a[:1, ..., :1].numel() for a in arguments)
    if numbers < _SMALL:
        if family == "normal":
            return _small_normal_total(slots, *arguments)
        return kernel(*arguments).sum(0)
    if family == "normal":
        result: Tensor = _NormalTotal.apply(*arguments)  # type: ignore[no-untyped-call]
        return result
    if any(a.requires_grad and a.shape[-1] != rows for a in arguments):
        return kernel(*arguments).sum(0)
    size = max(1, _BLOCK * slots // numbers)
    total: Tensor = _BlockTotal.apply(kernel, size, *arguments)  # type: ignore[no-untyped-call]
    return total


def _small_normal_total(slots: int, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return the sum of normal log densities over slots, formed directly."""
    ratio = (x - mean) / scale
    logarithm = torch.log(scale)
    logarithm = slots * logarithm[0] if scale.shape[0] == 1 else logarithm.sum(0)
    return (ratio * ratio).sum(0) * -0.5 - (logarithm + slots * HALF_LOG_TWO_PI)


def linear_normal_total(
    x: Tensor, source: Tensor, scale: Tensor, matrix: Tensor, bias: Tensor
) -> Tensor:
    """Return Σ_i log N(x_i; bias_i + matrix_i · source, scale_i), of shape [row].

    The means are formed block by block as well, forward and backward.

    Args:
        x: Values [slot, row].
        source: What the means are linear in, [column, row].
        scale: Standard deviations [slot, row].
        matrix: Coefficients [slot, column].
        bias: Constants [slot, 1].
    """
    rows = max(x.shape[1], source.shape[1], scale.shape[1])
    is_plain = matrix.shape[0] * rows < _SMALL or source.shape[1] != rows
    if is_plain or (torch.is_grad_enabled() and x.requires_grad):
        mean = torch.addmm(bias, matrix, source)
        total: Tensor = _NormalTotal.apply(x, mean, scale)  # type: ignore[no-untyped-call]
        return total
    result: Tensor = _LinearNormalTotal.apply(x, source, scale, matrix, bias)  # type: ignore[no-untyped-call]
    return result


def _block(value: Tensor, start: int, size: int) -> Tensor:
    """Return some slots of an argument; an argument of one slot serves all."""
    return value if value.shape[0] == 1 else value[start : start + size]


def _reduced(gradient: Tensor, like: Tensor) -> Tensor:
    """Return a gradient summed to the shape of its argument."""
    if gradient.shape[0] != like.shape[0]:
        gradient = gradient.sum(0, keepdim=True)
    if gradient.shape[-1] != like.shape[-1]:
        gradient = gradient.sum(-1, keepdim=True)
    return gradient


class _NormalTotal(torch.autograd.Function):
    """The sum of normal log densities over slots."""

    @staticmethod
    def forward(context: Any, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        slots = max(x.shape[0], mean.shape[0], scale.shape[0])
        rows = max(x.shape[1], mean.shape[1], scale.shape[1])
        is_shared = scale.shape[0] == 1
        inverse = scale.reciprocal()
        square = x.new_zeros(rows)
        size = max(1, _BLOCK // rows)
        for start in range(0, slots, size):
            gap = _block(x, start, size) - _block(mean, start, size)
            gap = gap * _block(inverse, start, size)
            share = (gap * gap).sum(0)
            count = min(size, slots - start)
            square += share if gap.shape[0] == count else share * count
        context.save_for_backward(x, mean, scale, square)
        if is_shared:
            logarithm = slots * torch.log(scale)[0]
        else:
            logarithm = torch.log(scale).sum(0)
        return -0.5 * square - logarithm - slots * HALF_LOG_TWO_PI

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, square = context.saved_tensors
        incoming = gradients[0][None]
        needs_x, needs_mean, needs_scale = context.needs_input_grad
        inverse = scale.reciprocal()
        slots = max(x.shape[0], mean.shape[0], scale.shape[0])
        if torch.is_grad_enabled():
            return _normal_gradients(x, mean, scale, incoming, slots)
        for_x = for_mean = for_scale = None
        if needs_scale and scale.shape[0] == 1:
            for_scale = _reduced((square - slots) * inverse * incoming, scale)
            needs_scale = False
        if needs_x or needs_mean or needs_scale:
            rows = incoming.shape[1]
            weight = inverse * incoming
            pull = x.new_empty(slots, rows)
            spread = x.new_empty(slots, rows) if needs_scale else None
            size = max(1, _BLOCK // rows)
            for start in range(0, slots, size):
                part = pull[start : start + size]
                values = _block(x, start, size).expand_as(part)
                torch.sub(values, _block(mean, start, size), out=part)
                factor = _block(inverse, start, size)
                part *= factor
                if spread is not None:
                    spread[start : start + size] = (part * part - 1.0) * factor
                part *= _block(weight, start, size)
            if needs_mean:
                for_mean = _reduced(pull, mean)
            if spread is not None:
                for_scale = _reduced(spread * incoming, scale)
            if needs_x:
                for_x = -_reduced(pull, x)
        return for_x, for_mean, for_scale


def _normal_gradients(
    x: Tensor, mean: Tensor, scale: Tensor, incoming: Tensor, slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three gradients by operations that can be differentiated again."""
    ratio = ((x - mean) / scale).expand(slots, incoming.shape[1])
    pull = ratio / scale * incoming
    spread = (ratio * ratio - 1.0) / scale * incoming
    return -_reduced(pull, x), _reduced(pull, mean), _reduced(spread, scale)


class _LinearNormalTotal(torch.autograd.Function):
    """The sum of normal log densities whose means are linear in a few slots."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        source: Tensor,
        scale: Tensor,
        matrix: Tensor,
        bias: Tensor,
    ) -> Tensor:
        slots, rows = matrix.shape[0], source.shape[1]
        is_shared = scale.shape[0] == 1
        inverse = scale.reciprocal()
        square = x.new_zeros(rows)
        size = max(1, _BLOCK // rows)
        offset = bias - x if x.shape[1] == 1 else bias
        for start in range(0, slots, size):
            part = matrix[start : start + size]
            gap = torch.addmm(_block(offset, start, size), part, source)
            if x.shape[1] > 1:
                gap -= _block(x, start, size)
            gap *= _block(inverse, start, size)
            square += gap.square_().sum(0)
        context.save_for_backward(x, source, scale, matrix, bias, square)
        if is_shared:
            logarithm = slots * torch.log(scale)[0]
        else:
            logarithm = torch.log(scale).sum(0)
        return -0.5 * square - logarithm - slots * HALF_LOG_TWO_PI

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, source, scale, matrix, bias, square = context.saved_tensors
        incoming = gradients[0][None]
        slots, rows = matrix.shape[0], source.shape[1]
        inverse = scale.reciprocal()
        if torch.is_grad_enabled():
            mean = torch.addmm(bias, matrix, source)
            found = _normal_gradients(x, mean, scale, incoming, slots)
            return found[0], matrix.mT @ found[1], found[2], None, None
        _, needs_source, needs_scale, _, _ = context.needs_input_grad
        is_shared = scale.shape[0] == 1
        for_source = torch.zeros_like(source) if needs_source else None
        for_scale = None
        if needs_scale and is_shared:
            for_scale = _reduced((square - slots) * inverse * incoming, scale)
        spread = torch.empty_like(scale) if needs_scale and not is_shared else None
        weight = inverse * incoming
        size = max(1, _BLOCK // rows)
        offset = x - bias if x.shape[1] == 1 else -bias
        for start in range(0, slots, size):
            part = matrix[start : start + size]
            pull = torch.addmm(_block(offset, start, size), part, source, alpha=-1.0)
            if x.shape[1] > 1:
                pull += _block(x, start, size)
            factor = _block(inverse, start, size)
            pull *= factor
            if spread is not None:
                share = (pull * pull - 1.0) * factor * incoming
                if scale.shape[1] == 1:
                    share = share.sum(1, keepdim=True)
                spread[start : start + size] = share
            if for_source is not None:
                pull *= _block(weight, start, size)
                for_source.addmm_(part.mT, pull)
        return None, for_source, spread if for_scale is None else for_scale, None, None


class _BlockTotal(torch.autograd.Function):
    """The sum of any log densities over slots; gradients are formed block by block."""

    @staticmethod
    def forward(
        context: Any, kernel: Callable[..., Tensor], size: int, *arguments: Tensor
    ) -> Tensor:
        slots = max(argument.shape[0] for argument in arguments)
        rows = max(argument.shape[-1] for argument in arguments)
        total = arguments[0].new_zeros(rows)
        wanted = [n for n, a in enumerate(arguments) if context.needs_input_grad[n + 2]]
        slopes = [torch.zeros_like(arguments[n]) for n in wanted]
        for start in range(0, slots, size):
            parts = [_block(argument, start, size).detach() for argument in arguments]
            with torch.set_grad_enabled(bool(wanted)):
                for number in wanted:
                    parts[number].requires_grad_()
                share = kernel(*parts).sum(0)
                if share.requires_grad:  # a flat density reads no argument
                    found = torch.autograd.grad(
                        share.sum(), [parts[n] for n in wanted], allow_unused=True
                    )
                    for slope, gradient in zip(slopes, found, strict=True):
                        if gradient is not None:
                            _block(slope, start, size).add_(gradient)
            total += share.detach()
        context.kernel = kernel
        context.wanted = wanted
        context.save_for_backward(*arguments, *slopes)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = context.saved_tensors
        count = len(saved) - len(context.wanted)
        arguments, slopes = saved[:count], saved[count:]
        if torch.is_grad_enabled():
            value = context.kernel(*arguments).sum()
            if value.requires_grad:
                slopes = torch.autograd.grad(
                    value,
                    [arguments[n] for n in context.wanted],
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
        result: list[Tensor | None] = [None] * (count + 2)
        for number, slope in zip(context.wanted, slopes, strict=True):
            result[number + 2] = slope * gradients[0]
        return tuple(result)

"""This file sums out one variable of tables in log space, with gradients.

    log_sum(A)[a]         = log Σ_v exp A[v, a]
    log_product(A, B)[a, b] = log Σ_v exp(A[v, a] + B[v, b])

The second is a product of matrices: each is scaled by the largest number of a column,
so that the sum needs no exponential of every pair. Where a sum falls below 1e-200 that
way, because the largest numbers stand at different v, it is done again pair by pair.
-inf is an impossible entry; where all are, so is the sum, and its gradient is 0.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["log_product", "log_sum"]

_LEAST = 1e-200
_FEW = 8
"""Up to so many values are summed one by one, row after row of memory."""


def log_sum(table: Float[Tensor, "member value rest row"]) -> Tensor:
    """Return the logsumexp over the second axis.

    Example:
        >>> found = log_sum(torch.tensor([0.5, 0.5]).log().reshape(1, 2, 1, 1))
        >>> found.exp().tolist()
        [[[1.0]]]
    """
    found: Tensor = _LogSum.apply(table)  # type: ignore[no-untyped-call]
    return found


def log_product(
    left: Float[Tensor, "member value left row"],
    right: Float[Tensor, "member value right row"],
) -> Float[Tensor, "member left right row"]:
    """Return the logsumexp over the second axis of all sums of left and right."""
    found: Tensor = _LogProduct.apply(left, right)  # type: ignore[no-untyped-call]
    return found


class _LogSum(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor) -> Tensor:
        scaled, highest = _scaled(table)
        total = scaled.sum(1)
        ctx.save_for_backward(scaled, total)
        return total.log() + highest.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scaled: Tensor
        scaled, total = ctx.saved_tensors
        return scaled * _over(gradient, total).unsqueeze(1)


class _LogProduct(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        scaled_left, high_left = _scaled(left)
        scaled_right, high_right = _scaled(right)
        total = _contracted(scaled_left, scaled_right)
        ctx.is_exact = bool((total < _LEAST).any()) and not _is_never(
            left, right, total
        )
        if ctx.is_exact:
            scaled, highest = _scaled(left.unsqueeze(3) + right.unsqueeze(2))
            total = scaled.sum(1)
            ctx.save_for_backward(scaled, total)
            ctx.shapes = left.shape, right.shape
            return total.log() + highest.squeeze(1)
        ctx.save_for_backward(scaled_left, scaled_right, total)
        return (
            total.log()
            + high_left.squeeze(1).unsqueeze(2)
            + high_right.squeeze(1).unsqueeze(1)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if ctx.is_exact:
            scaled, total = ctx.saved_tensors
            full = scaled * _over(gradient, total).unsqueeze(1)
            left, right = ctx.shapes
            return full.sum(3).sum_to_size(left), full.sum(2).sum_to_size(right)
        left, right, total = ctx.saved_tensors
        share = _over(gradient, total)
        to_left = to_right = None
        if ctx.needs_input_grad[0]:
            found = _contracted(share.transpose(1, 2), right.transpose(1, 2))
            to_left = (left * found.transpose(1, 2)).sum_to_size(left.shape)
        if ctx.needs_input_grad[1]:
            found = _contracted(share, left.transpose(1, 2))
            to_right = (right * found.transpose(1, 2)).sum_to_size(right.shape)
        return to_left, to_right


def _scaled(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp of a table over the largest along axis 1, and the log of that."""
    highest = table.amax(1, keepdim=True)
    if not bool(torch.isfinite(highest).all()):
        highest = torch.where(torch.isfinite(highest), highest, 0.0)
    return (table - highest).exp_(), highest


def _over(gradient: Tensor, total: Tensor) -> Tensor:
    """Return a gradient over a sum; 0 where that is 0."""
    share = gradient / total
    return share if bool((total > 0.0).all()) else share.where(total > 0.0, 0.0)


def _contracted(left: Tensor, right: Tensor) -> Tensor:
    """Return Σ_k left[m, k, a, r] · right[m, k, b, r], as [m, a, b, r]."""
    number = left.shape[1]
    if number > _FEW or max(left.shape[3], right.shape[3]) == 1:
        return torch.einsum("mkar,mkbr->mabr", left, right)
    total = left[:, 0, :, None] * right[:, 0, None]
    for k in range(1, number):
        total.addcmul_(left[:, k, :, None], right[:, k, None])
    return total


def _is_never(left: Tensor, right: Tensor, total: Tensor) -> bool:
    """Whether all small sums are 0 because no pair is possible."""
    is_possible = _contracted(
        (left > -torch.inf).to(left.dtype), (right > -torch.inf).to(right.dtype)
    )
    return not bool(((total < _LEAST) & (is_possible > 0.0)).any())

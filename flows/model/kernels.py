"""This file computes scalar operations for many slots and rows at once.

An elementwise kernel takes tensors of shape [slots, rows]; a dimension of length 1
stands for a value that all slots, or all rows, share. Gradients follow autograd, with
one addition: where an operation lies in a branch that a row does not take, the
incoming gradient is zero, and `guarded` keeps the outgoing one zero even where the
derivative there is infinite or nan (0 · ∞ is 0 for a value that nobody reads).

`SparseRows` is multiplication by a fixed sparse matrix from the left; its transpose is
the gradient, so both directions cost one pass over the entries.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["KERNELS", "RISKY", "SparseRows", "guarded", "pick"]

Kernel = Callable[..., Tensor]


def _truth(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype)


def _quotient(left: Tensor, right: Tensor) -> Tensor:
    return torch.trunc(left / right)


def _cube_root(value: Tensor) -> Tensor:
    return torch.sign(value) * torch.abs(value).pow(1.0 / 3.0)


def _off_poles(function: Callable[[Tensor], Tensor]) -> Kernel:
    """Return the function with nan at 0, -1, -2, ..."""

    def kernel(value: Tensor) -> Tensor:
        is_pole = (value <= 0) & (value == torch.floor(value))
        return torch.where(is_pole, math.nan, function(value))

    return kernel


def _on_integers(operate: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return operate(left.long(), right.long()).to(left.dtype)

    return kernel


def _round_half_up(value: Tensor) -> Tensor:
    return torch.floor(value + 0.5)


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "multiply": torch.mul,
        "divide": torch.div,
        "power": torch.pow,
        "modulo": torch.remainder,
        "remainder": torch.fmod,
        "quotient": _quotient,
        "minimum": torch.minimum,
        "maximum": torch.maximum,
        "arc tangent of quotient": torch.atan2,
        "hypotenuse": torch.hypot,
        "logarithm of sum of exponentials": torch.logaddexp,
        "absolute": torch.abs,
        "sign": torch.sign,
        "exponential": torch.exp,
        "logarithm": torch.log,
        "logarithm to base 10": torch.log10,
        "square root": torch.sqrt,
        "cube root": _cube_root,
        "sine": torch.sin,
        "cosine": torch.cos,
        "tangent": torch.tan,
        "arc sine": torch.asin,
        "arc cosine": torch.acos,
        "arc tangent": torch.atan,
        "hyperbolic sine": torch.sinh,
        "hyperbolic cosine": torch.cosh,
        "hyperbolic tangent": torch.tanh,
        "floor": torch.floor,
        "ceiling": torch.ceil,
        "round": _round_half_up,
        "round half to even": torch.round,
        "truncate": torch.trunc,
        "error function": torch.erf,
        "logarithm of gamma": _off_poles(torch.lgamma),
        "digamma": _off_poles(torch.digamma),
        "rectifier": torch.relu,
        "equal": lambda a, b: _truth(a == b, a),
        "less": lambda a, b: _truth(a < b, a),
        "less or equal": lambda a, b: _truth(a <= b, a),
        "both": torch.mul,
        "whole": lambda a: _truth(a == torch.floor(a), a),
        "is finite": lambda a: _truth(torch.isfinite(a), a),
        "is infinite": lambda a: _truth(torch.isinf(a), a),
        "is nan": lambda a: _truth(torch.isnan(a), a),
        "bitwise and": _on_integers(torch.bitwise_and),
        "bitwise or": _on_integers(torch.bitwise_or),
        "bitwise exclusive or": _on_integers(torch.bitwise_xor),
        "shift left": _on_integers(lambda a, b: a << (b % 64)),
        "shift right": _on_integers(lambda a, b: a >> (b % 64)),
        "choose": lambda c, t, e: torch.where(c != 0, t, e),
    }
)
"""Elementwise operations by name."""

RISKY = frozenset(
    {
        "divide",
        "power",
        "modulo",
        "remainder",
        "quotient",
        "arc tangent of quotient",
        "exponential",
        "logarithm",
        "logarithm to base 10",
        "square root",
        "cube root",
        "tangent",
        "arc sine",
        "arc cosine",
        "hyperbolic sine",
        "hyperbolic cosine",
        "hypotenuse",
        "logarithm of sum of exponentials",
        "logarithm of gamma",
        "digamma",
        "multiply",
    }
)
"""Operations with derivatives that may be infinite or nan at finite arguments, or that
multiply a zero gradient by a value that may be."""


def guarded(kernel: Kernel, arguments: Sequence[Tensor]) -> Tensor:
    """Return `kernel(*arguments)`, with gradient zero wherever none comes in.

    Args:
        kernel: Takes tensors [slot, ..., row], returns [slot, row].
        arguments: Its arguments.
    """
    if not torch.is_grad_enabled() or not any(a.requires_grad for a in arguments):
        return kernel(*arguments)
    slots = max(a.shape[0] for a in arguments)
    rows = max(a.shape[-1] for a in arguments)
    incoming: list[Tensor] = []

    def masked(gradient: Tensor | None) -> Tensor | None:
        if gradient is None or not incoming:
            return None
        middle = [1] * (gradient.dim() - 2)
        is_read = (incoming[-1] != 0).view(slots, *middle, rows)
        return torch.where(is_read, gradient, 0.0)

    entered = []
    for argument in arguments:
        wide = argument.expand(slots, *argument.shape[1:-1], rows)
        if wide.requires_grad:
            wide = wide.view_as(wide)
            wide.register_hook(masked)  # type: ignore[no-untyped-call]
        entered.append(wide)
    result = kernel(*entered)
    result.register_hook(incoming.append)  # type: ignore[no-untyped-call]
    return result


class SparseRows:
    """A fixed sparse matrix A; `apply(x)` returns A x for x of shape [columns, rows].

    Args:
        num_rows: Rows of A.
        num_columns: Columns of A.
        rows: Row of each entry.
        columns: Column of each entry.
        values: The entries; None for ones.
    """

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        rows: Tensor,
        columns: Tensor,
        values: Tensor | None,
    ) -> None:
        self._shape = (num_rows, num_columns)
        self._forward = _compressed(num_rows, rows, columns, values)
        self._transposed = _compressed(num_columns, columns, rows, values)

    def apply(self, x: Float[Tensor, "columns row"]) -> Float[Tensor, "rows row"]:
        """Return A x."""
        result: Tensor = _SparseProduct.apply(x, self._forward, self._transposed)  # type: ignore[no-untyped-call]
        return result


_Compressed = tuple[Tensor, Tensor, Tensor | None]


def _compressed(
    num_rows: int, rows: Tensor, columns: Tensor, values: Tensor | None
) -> _Compressed:
    order = torch.argsort(rows, stable=True)
    counts = torch.bincount(rows, minlength=num_rows)
    offsets = torch.cumsum(counts, 0) - counts
    return columns[order], offsets, None if values is None else values[order]


class _SparseProduct(torch.autograd.Function):
    """A x with gradient Aᵀ g; differentiable any number of times."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, matrix: _Compressed, transposed: _Compressed
    ) -> Tensor:
        context.matrices = (matrix, transposed)
        columns, offsets, values = matrix
        return torch.nn.functional.embedding_bag(
            columns, x, offsets, mode="sum", per_sample_weights=values
        )

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = context.matrices
        gradient = gradients[0].contiguous()
        return _SparseProduct.apply(gradient, transposed, matrix), None, None  # type: ignore[no-untyped-call]


def pick(
    index: Float[Tensor, "index_slot index_row"],
    rows: Tensor,
    source: Float[Tensor, "source source_row"],
) -> Float[Tensor, "slot row"]:
    """Return the alternative that `index` names; nan where it names none.

    Args:
        index: Number of the alternative, from 0.
        rows: Row of `source` of every alternative, one line per slot.
        source: Values of all alternatives.
    """
    count = rows.shape[1]
    is_valid = (index >= 0) & (index < count) & (index == torch.floor(index))
    position = torch.where(is_valid, index, 0.0).long()
    wide = max(index.shape[1], source.shape[1])
    slots = rows.shape[0]
    chosen = torch.gather(
        rows.expand(slots, count), 1, position.expand(slots, position.shape[1])
    )
    picked = torch.gather(
        source.expand(source.shape[0], wide), 0, chosen.expand(slots, wide)
    )
    return torch.where(is_valid, picked, math.nan)

"""This file sums out one variable of tables in log space, and sends gradients back.

    S[a]    = log Σ_v exp L[v, a],
    S[a, b] = log Σ_v exp(L[v, a] + R[v, b]).

The second is a product of matrices: each is scaled by the largest number of a column,
so that the sum needs no exponential of every pair. Where a sum falls below 1e-200 that
way, because the largest numbers stand at different v, it is done again pair by pair.
-inf is an impossible entry; where all are, so is the sum, and its gradient is 0.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LogSum"]

_LEAST = 1e-200
_FEW = 8
"""Up to so many values are summed one by one, row after row of memory."""


@dataclass(frozen=True, slots=True, eq=False)
class LogSum:
    """A sum over the values of alike variables.

    Attributes:
        value: Its log, [member, left, right, row].
        total: The sum of what is scaled.
        left: exp L, scaled; of every pair where there is a table of pairs.
        right: exp R, scaled; None if there is none, or it is in the pairs.
        pairs: Configurations of a and of b, if `left` is of every pair.
    """

    value: Float[Tensor, "member left right row"]
    total: Float[Tensor, "member left right row"]
    left: Float[Tensor, "member value rest row"]
    right: Float[Tensor, "member value right row"] | None
    pairs: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        left: Float[Tensor, "member value left row"],
        right: Float[Tensor, "member value right row"] | None,
        *,
        may_change: bool = False,
    ) -> "LogSum":
        """Return the sum of tables over v and its neighbours.

        Args:
            left: L.
            right: R, if there is one.
            may_change: Whether L may be changed.

        Example:
            >>> coin = torch.tensor([0.5, 0.5]).log().reshape(1, 2, 1, 1)
            >>> LogSum.of(coin, None).value.exp().reshape(-1).tolist()
            [1.0]
        """
        scaled, high = _scaled(left, may_change=may_change and right is None)
        if right is None:
            total = scaled.sum(1).unsqueeze(2)
            return cls(total.log().add_(high.movedim(1, 2)), total, scaled, None)
        other, other_high = _scaled(right)
        total = _contracted(scaled, other)
        if float(total.min()) < _LEAST and not _is_never(left, right, total):
            return cls._of_pairs(left, right)
        value = total.log().add_(high.movedim(1, 2)).add_(other_high)
        return cls(value, total, scaled, other)

    @classmethod
    def _of_pairs(cls, left: Tensor, right: Tensor) -> "LogSum":
        sizes = left.shape[2], right.shape[2]
        joined = left.unsqueeze(3) + right.unsqueeze(2)
        shape = joined.shape
        found = cls.of(joined.reshape(*shape[:2], -1, shape[4]), None)
        value, total = (
            part.reshape(shape[0], *shape[2:]) for part in (found.value, found.total)
        )
        return cls(value, total, found.left, None, sizes)

    def gradients(
        self, gradient: Float[Tensor, "member left right row"]
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by L and by R, [member, value, left or right, row].

        Members and rows that the tables share are not summed.
        """
        share = gradient / self.total
        if not float(self.total.min()) > 0.0:
            share = torch.where(self.total > 0.0, share, 0.0)
        if self.right is not None:
            to_left = _contracted(share.transpose(1, 2), self.right.transpose(1, 2))
            to_right = _contracted(share, self.left.transpose(1, 2))
            return self.left * to_left.transpose(1, 2), self.right * (
                to_right.transpose(1, 2)
            )
        if self.pairs is None:
            return self.left * share.movedim(2, 1), None
        members, values, _, rows = self.left.shape
        scaled = self.left.reshape(members, values, *self.pairs, rows)
        full = scaled * share.unsqueeze(1)
        return full.sum(3), full.sum(2)


def _scaled(table: Tensor, *, may_change: bool = False) -> tuple[Tensor, Tensor]:
    """Return exp of a table over the largest along axis 1, and the log of that."""
    high = table.amax(1, keepdim=True)
    if not math.isfinite(float(high.sum())):
        high = torch.where(torch.isfinite(high), high, 0.0)
    return (table.sub_(high) if may_change else table - high).exp_(), high


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

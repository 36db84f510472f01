r"""This file sums discrete variables out of a product of tables, and draws them again.

Tables over scopes S_k of discrete variables d, with one number per row in each entry:

    log Z = logsumexp over d of Σ_k T_k(d_{S_k}).

Variables go in the rounds of `order.py`. Summing out v adds the tables that hold it to
one joined table (`joins.py`) and leaves its logsumexp over v (`log_sums.py`). Backward,
in reverse order, v is drawn from the softmax of its joined table, kept for that, at the
values drawn already: exact draws of p(d) ∝ exp Σ T. Where the sum of many rows and its
slopes are all that is wanted, a loop goes through chains of alike links (`chains.py`).
The gradient of log Z by an entry is the probability that its configuration has:
marginals are the gradient by tables of zeros, one over each variable.

Everything is in log space and differentiable; -inf is an impossible entry.

References:
    Koller and Friedman (2009), Probabilistic Graphical Models, chapters 9 and 13.
    Darwiche (2003), "A differential approach to inference in Bayesian networks",
    Journal of the ACM 50 (marginals as gradients).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .chains import Chain, find_chains
from .joins import Join, Joins, Table
from .log_sums import LogSum
from .order import EliminationOrder, elimination_order
from .passes import Pass, as_block, joined_tables, log_sum, row_parts
from .reads import Read

__all__ = ["Elimination", "Table"]

_MOST_SCORES = 2**24
"""Most numbers that are held to draw values."""
_BELOW_ONE = 1.0 - 2.0**-52
"""A uniform number times this times a sum is below the sum, rounded as it may be."""

Blocks = Sequence[Float[Tensor, "entry row"]]


class Elimination:
    """How to sum out the variables of some tables; made once, used for any numbers.

    The numbers come in blocks, [entry, row] or [entry, 1] for numbers that all rows
    share: what is made of shared numbers alone is computed once.

    Attributes:
        cardinalities: Number of values of each variable.
        num_blocks: Number of blocks of numbers.
        largest: Entries of the largest joined table, the memory of one row.

    Example:
        >>> import numpy as np, torch
        >>> coin = Table((0,), np.array([0, 1]))
        >>> fair = torch.tensor([[0.5], [0.5]], dtype=torch.float64).log()
        >>> Elimination([2], [coin]).log_sum([fair]).exp().tolist()
        [1.0]
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        tables: Sequence[Table],
        *,
        num_blocks: int = 1,
        order: EliminationOrder | None = None,
    ) -> None:
        self.cardinalities = tuple(cardinalities)
        self.num_blocks = num_blocks
        if order is None:
            order = elimination_order(cardinalities, [table.scope for table in tables])
        self.largest = order.largest
        self._tables, self._order = tables, order
        self._joins, self._left = self._joined_by(tables, frozenset())

    # -------------------------------------------------------------- what it gives

    def log_sum(self, blocks: Blocks) -> Float[Tensor, " row"]:
        """Return log Z of every row, with gradients.

        Args:
            blocks: Numbers in nats.
        """
        if _are_for_loops(blocks) and self._chains:
            found = log_sum(*self._beside_chains, blocks)
            for chain in self._chains:
                own = chain.log_sum(blocks)
                if own is None:
                    break
                found = found + own
            else:
                return found
        return log_sum(self._joins, self._left, blocks)

    def sample(
        self, blocks: Blocks, num: int, *, generator: torch.Generator
    ) -> Int[Tensor, "variable draw"]:
        """Return exact draws of the variables, one for each row.

        Args:
            blocks: Numbers in nats.
            num: Number of rows, or of draws where the blocks have one row.
            generator: Source of the draws.
        """
        found = []
        with torch.no_grad():
            parts = row_parts(self._joins, blocks)
            for part in parts:
                kept, total = self._joined(part)
                count = num if len(parts) == 1 else len(total)
                found.append(self._backward(kept, count, generator))
        return torch.cat(found, 1)

    def marginals(self, blocks: Blocks) -> tuple[Float[Tensor, "value row"], ...]:
        """Return the probability of every value of every variable."""
        rows = max(block.shape[1] for block in blocks)
        with torch.no_grad():
            made = Pass.of(self._joins, self._left, blocks)
            marginals: list[Tensor] = []
            made.gradients(
                torch.ones_like(made.log_sum), [False] * len(blocks), marginals
            )
        found = blocks[0].new_zeros(sum(self.cardinalities), rows)
        starts = np.concatenate([[0], np.cumsum(self.cardinalities)])
        for join, own in zip(reversed(self._joins), marginals, strict=True):
            first = torch.as_tensor(starts[join.variables.numpy()])
            places = first[:, None] + torch.arange(join.cardinality)
            found[places] = own
        return torch.split(found, list(self.cardinalities))

    # -------------------------------------------------------------- passes

    @cached_property
    def _chains(self) -> tuple[Chain, ...]:
        return find_chains(self.cardinalities, self._tables)

    @cached_property
    def _beside_chains(self) -> tuple[list[Join], tuple[Read, ...]]:
        """What sums the variables that are of no chain."""
        own = {number for chain in self._chains for number in chain.tables}
        rest = [table for n, table in enumerate(self._tables) if n not in own]
        chained = frozenset(v for chain in self._chains for v in chain.variables)
        return self._joined_by(rest, chained)

    def _joined_by(
        self, tables: Sequence[Table], without: frozenset[int]
    ) -> tuple[list[Join], tuple[Read, ...]]:
        """Return the joins of tables, but for some variables, and what is left."""
        joins = Joins(self.cardinalities, tables, self.num_blocks)
        rounds = [[v for v in each if v not in without] for each in self._order.rounds]
        return [join for each in rounds for join in joins.round(each)], joins.left()

    def _joined(self, given: Blocks) -> tuple[list[Tensor], Float[Tensor, " row"]]:
        """Return all joined tables, and what is left when all is summed out."""
        blocks, kept = list(given), []
        for join in self._joins:
            table, other = joined_tables(join, blocks)
            if other is not None:
                table = table.unsqueeze(3) + other.unsqueeze(2)
                table = table.reshape(*table.shape[:2], -1, table.shape[-1])
            kept.append(table)
            blocks.append(as_block(join, LogSum.of(table, None).value))
        total = given[0].new_zeros(max(block.shape[1] for block in given))
        for read in self._left:
            total = total + read.of_blocks(blocks).sum((0, 1, 2))
        return kept, total

    def _backward(
        self, kept: list[Tensor], count: int, generator: torch.Generator
    ) -> Tensor:
        """Return draws of all variables, the last one summed out first."""
        values = torch.zeros(len(self.cardinalities), count, dtype=torch.long)
        for join, joined in zip(reversed(self._joins), reversed(kept), strict=True):
            most = max(1, _MOST_SCORES // (len(join.variables) * join.cardinality))
            for part in torch.split(torch.arange(count), most):
                rest = values[join.rest[:, :, None], part]
                values[join.variables[:, None], part] = _drawn(
                    join, joined, rest, part, generator
                )
        return values


def _are_for_loops(blocks: Blocks) -> bool:
    """Whether compiled loops take these numbers, and they are worth one."""
    is_worth_it = any(block.shape[1] > 1 or block.requires_grad for block in blocks)
    return is_worth_it and all(
        block.dtype == torch.float64 and not block.is_cuda for block in blocks
    )


def _drawn(
    join: Join,
    joined: Tensor,
    rest: Int[Tensor, "member other draw"],
    rows: Int[Tensor, " draw"],
    generator: torch.Generator,
) -> Int[Tensor, "member draw"]:
    """Return draws of a join's variables given those of the others."""
    place = (rest * join.strides[:, :, None]).sum(1)
    members = torch.arange(len(join.variables))[:, None]
    row = rows if joined.shape[3] > 1 else torch.zeros(1).long()
    scores = joined.movedim(1, 3)[members % joined.shape[0], place, row]
    reached = scores.softmax(-1).cumsum(-1)
    uniform = torch.rand(scores.shape[:2], generator=generator, dtype=torch.float64)
    wanted = (uniform * _BELOW_ONE).unsqueeze(-1) * reached[..., -1:]
    return (reached[..., :-1] <= wanted).sum(-1)

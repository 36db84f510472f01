r"""This file sums discrete variables out of a product of tables, and draws them again.

Tables over scopes S_k of discrete variables d, with one number per row in each entry:

    log Z = logsumexp over d of Σ_k T_k(d_{S_k}).

Variables go in the rounds of `order.py`. Summing out v adds the tables that hold it to
one joined table, which is kept, and leaves its logsumexp over v. Alike variables of a
round are one gather, sum and logsumexp. Backward, in reverse order, v is drawn from the
softmax of its kept table at the values drawn already: exact draws of p(d) ∝ exp Σ T.
With max in place of logsumexp the same passes give the most probable configuration. The
gradient of log Z by an entry is the probability that its configuration has: marginals
are the gradient by tables of zeros, one over each variable.

Everything is in log space and differentiable; -inf is an impossible entry.

References:
    Koller and Friedman (2009), Probabilistic Graphical Models, chapters 9 and 13.
    Darwiche (2003), "A differential approach to inference in Bayesian networks",
    Journal of the ACM 50 (marginals as gradients).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .order import EliminationOrder, elimination_order

__all__ = ["Elimination", "Table"]

_MANY = 8
"""Tables of one variable from which on a matrix product joins them."""

_MOST_SCORES = 2**24
"""Most numbers that are held to draw values."""

_IMPOSSIBLE = -1e30
"""Stands for -inf in matrix products, where 0 · (-inf) would be nan."""

Blocks = Sequence[Float[Tensor, "entry row"]]

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers over discrete variables.

    Attributes:
        scope: Its variables, by number.
        entries: Which entry of its block each configuration has, one axis for each
            variable of the scope; configurations may share entries.
        block: Which of the blocks of numbers holds its entries.
    """

    scope: tuple[int, ...]
    entries: IntArray
    block: int = 0


@dataclass(frozen=True, eq=False)
class _Step:
    """Alike variables that are summed out by one operation.

    Attributes:
        variables: Their numbers.
        cardinality: Their number of values.
        parts: For each table of a variable the block it lies in, and where each entry
            of the joined table reads, [variable * entry].
        counts: For each block how often each entry of the joined tables reads each of
            some of the block's entries, in place of parts; with those entries.
        rest: The other variables of each joined table, padded, [variable, most].
        strides: Their strides in it, 0 where padded.
    """

    variables: Tensor
    cardinality: int
    parts: tuple[tuple[int, Tensor], ...]
    counts: tuple[tuple[int, Tensor, Tensor], ...]
    rest: Tensor
    strides: Tensor


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
        builder = _Builder(self.cardinalities, tables, num_blocks)
        self._steps = [
            step for variables in order.rounds for step in builder.round(variables)
        ]
        self._constants = builder.constants()

    # -------------------------------------------------------------- what it gives

    def log_sum(self, blocks: Blocks) -> Float[Tensor, " row"]:
        """Return log Z of every row, with gradients.

        Args:
            blocks: Numbers in nats.
        """
        return self._forward(blocks)[0]

    def sample(
        self, blocks: Blocks, num: int, *, generator: torch.Generator
    ) -> Int[Tensor, "variable draw"]:
        """Return exact draws of the variables, one for each row.

        Args:
            blocks: Numbers in nats.
            num: Number of rows, or of draws where the blocks have one row.
            generator: Source of the draws.
        """
        with torch.no_grad():
            _, kept = self._forward(blocks)
            return self._backward(kept, num, generator)

    def most_probable(
        self, blocks: Blocks
    ) -> tuple[Int[Tensor, "variable row"], Float[Tensor, " row"]]:
        """Return the most probable configuration of every row, and its Σ T."""
        with torch.no_grad():
            best, kept = self._forward(blocks, largest=True)
            return self._backward(kept, len(best), None), best

    def marginals(self, blocks: Blocks) -> tuple[Float[Tensor, "value row"], ...]:
        """Return the probability of every value of every variable."""
        rows = max(block.shape[1] for block in blocks)
        total = sum(self.cardinalities)
        unary = blocks[0].new_zeros(total, rows, requires_grad=True)
        with torch.enable_grad():
            log_sum = self._forward([block.detach() for block in blocks], unary)[0]
            (found,) = torch.autograd.grad(log_sum.sum(), unary)
        return tuple(torch.split(found, list(self.cardinalities)))

    # -------------------------------------------------------------- passes

    def _forward(
        self,
        given: Blocks,
        unary: Float[Tensor, "value row"] | None = None,
        *,
        largest: bool = False,
    ) -> tuple[Tensor, list[tuple[_Step, Tensor]]]:
        """Return what is left when all is summed out, and the joined tables.

        Args:
            given: Blocks of numbers.
            unary: One more table for each variable, one after the other.
            largest: Whether to take the largest term instead of the sum.
        """
        blocks = list(given)
        kept: list[tuple[_Step, Tensor]] = []
        starts = np.concatenate([[0], np.cumsum(self.cardinalities)])
        for step in self._steps:
            joined = _joined(step, blocks)
            joined = joined.reshape(
                len(step.variables), step.cardinality, -1, joined.shape[-1]
            )
            if unary is not None:
                first = torch.as_tensor(starts[step.variables.numpy()])
                own = first[:, None] + torch.arange(step.cardinality)
                joined = joined + unary[own][:, :, None]
            kept.append((step, joined))
            left = joined.amax(1) if largest else _log_sum_exp(joined)
            blocks.append(left.reshape(-1, left.shape[-1]))
        total = given[0].new_zeros(max(block.shape[1] for block in given))
        for block, positions in self._constants:
            total = total + blocks[block][positions].sum(0)
        return total, kept

    def _backward(
        self,
        kept: list[tuple[_Step, Tensor]],
        count: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return values of all variables, drawn or the best where no generator is."""
        values = torch.zeros(len(self.cardinalities), count, dtype=torch.long)
        for step, joined in reversed(kept):
            most = max(1, _MOST_SCORES // (len(step.variables) * step.cardinality))
            for part in torch.split(torch.arange(count), most):
                rest = values[step.rest[:, :, None], part]
                values[step.variables[:, None], part] = _drawn(
                    step, joined, rest, part, generator
                )
        return values


def _drawn(
    step: _Step,
    joined: Tensor,
    rest: Int[Tensor, "member other draw"],
    rows: Int[Tensor, " draw"],
    generator: torch.Generator | None,
) -> Int[Tensor, "member draw"]:
    """Return values of a step's variables given those of the others."""
    place = (rest * step.strides[:, :, None]).sum(1)
    members = torch.arange(len(step.variables))[:, None]
    row = rows if joined.shape[3] > 1 else torch.zeros(1).long()
    scores = joined.movedim(1, 3)[members, place, row]
    if generator is not None:
        uniform = torch.rand(
            scores.shape, generator=generator, dtype=torch.float64
        ).clamp_min(1e-300)
        scores = scores - torch.log(-torch.log(uniform))
    return scores.argmax(-1)


def _joined(step: _Step, blocks: Sequence[Tensor]) -> Tensor:
    """Return the joined tables of a step, [variable * entry, row]."""
    total: Tensor | None = None
    for block, positions in step.parts:
        part = blocks[block][positions]
        total = part if total is None else total + part
    for block, counts, positions in step.counts:
        part = blocks[block][positions].clamp_min(_IMPOSSIBLE)
        part = counts.to(part.dtype) @ part
        part = torch.where(part <= 0.1 * _IMPOSSIBLE, -torch.inf, part)
        total = part if total is None else total + part
    if total is None:
        size = len(step.variables) * step.cardinality
        return blocks[0].new_zeros(size, 1)
    return total


def _log_sum_exp(joined: Tensor) -> Tensor:
    """Return logsumexp over axis 1; -inf with gradient 0 where all terms are -inf."""
    highest = joined.detach().amax(1, keepdim=True)
    highest = torch.where(torch.isfinite(highest), highest, 0.0)
    total = torch.exp(joined - highest).sum(1)
    is_possible = total > 0.0
    safe = torch.where(is_possible, total, 1.0)
    return torch.where(is_possible, torch.log(safe) + highest.squeeze(1), -torch.inf)


class _Builder:
    """Works out where each joined table reads, round by round."""

    def __init__(
        self, cardinalities: Sequence[int], tables: Sequence[Table], num_blocks: int
    ) -> None:
        self.cardinalities = cardinalities
        self.held: list[dict[int, None]] = [{} for _ in cardinalities]
        self.scopes: list[tuple[int, ...]] = []
        self.places: list[tuple[int, IntArray]] = []
        self.num_blocks = num_blocks
        for table in tables:
            self._add(table.scope, table.block, table.entries)

    def _add(self, scope: tuple[int, ...], block: int, places: IntArray) -> None:
        number = len(self.scopes)
        self.scopes.append(scope)
        self.places.append((block, places))
        for variable in scope:
            self.held[variable][number] = None

    def round(self, variables: Sequence[int]) -> list[_Step]:
        """Return the steps of a round, alike variables together."""
        groups: dict[tuple[object, ...], list[tuple[int, list[int], list[int]]]] = {}
        for variable in variables:
            numbers = sorted(self.held[variable], key=lambda n: self.places[n][0])
            rest = sorted({v for n in numbers for v in self.scopes[n]} - {variable})
            sizes = tuple(self.cardinalities[v] for v in rest)
            blocks = tuple(self.places[number][0] for number in numbers)
            key = (self.cardinalities[variable], int(np.prod(sizes)), blocks)
            groups.setdefault(key, []).append((variable, rest, numbers))
        return [self._step(members) for members in groups.values()]

    def _step(self, members: list[tuple[int, list[int], list[int]]]) -> _Step:
        most = max(1, *(len(rest) for _, rest, _ in members))
        around = np.zeros((len(members), most), dtype=np.int64)
        strides = np.zeros((len(members), most), dtype=np.int64)
        read: list[list[IntArray]] = []
        first = 0
        block = self.num_blocks
        self.num_blocks += 1
        for position, (variable, rest, numbers) in enumerate(members):
            scope = (variable, *rest)
            read.append([self._spread(number, scope).reshape(-1) for number in numbers])
            sizes = [self.cardinalities[v] for v in rest]
            own = np.cumprod([1, *sizes[::-1]])[::-1][1:]
            around[position, : len(rest)] = rest
            strides[position, : len(rest)] = own
            for number in numbers:
                for other in self.scopes[number]:
                    self.held[other].pop(number, None)
            size = int(np.prod(sizes))
            places = np.arange(first, first + size, dtype=np.int64).reshape(sizes)
            first += size
            self._add(tuple(rest), block, places)
        numbers = members[0][2]
        blocks = [self.places[number][0] for number in numbers]
        columns = [np.concatenate(column) for column in zip(*read, strict=True)]
        parts: list[tuple[int, Tensor]] = []
        counts: list[tuple[int, Tensor, Tensor]] = []
        for one in dict.fromkeys(blocks):
            own_columns = [c for b, c in zip(blocks, columns, strict=True) if b == one]
            if len(own_columns) > _MANY and len(members) == 1:
                counts.append((one, *_counted(own_columns)))
            else:
                parts.extend((one, torch.from_numpy(c)) for c in own_columns)
        return _Step(
            torch.tensor([variable for variable, _, _ in members]),
            self.cardinalities[members[0][0]],
            tuple(parts),
            tuple(counts),
            torch.from_numpy(around),
            torch.from_numpy(strides),
        )

    def _spread(self, number: int, scope: tuple[int, ...]) -> IntArray:
        """Return where a table's entries lie for each configuration of a scope."""
        own = self.scopes[number]
        places = self.places[number][1]
        order = sorted(range(len(own)), key=lambda axis: scope.index(own[axis]))
        shape = [self.cardinalities[v] if v in own else 1 for v in scope]
        full = [self.cardinalities[v] for v in scope]
        return np.broadcast_to(places.transpose(order).reshape(shape), full)

    def constants(self) -> tuple[tuple[int, Tensor], ...]:
        """Return where the tables lie whose scope is empty, when all is summed out."""
        by_block: dict[int, list[IntArray]] = {}
        for scope, (block, places) in zip(self.scopes, self.places, strict=True):
            if not scope:
                by_block.setdefault(block, []).append(places.reshape(-1))
        return tuple(
            (block, torch.from_numpy(np.concatenate(found)))
            for block, found in by_block.items()
        )


def _counted(columns: Sequence[IntArray]) -> tuple[Tensor, Tensor]:
    """Return how often each joined entry reads each entry, and which entries."""
    used, places = np.unique(np.stack(columns), return_inverse=True)
    counts = np.zeros((columns[0].size, used.size))
    entries = np.arange(columns[0].size)
    for column in places.reshape(len(columns), -1):
        np.add.at(counts, (entries, column), 1.0)
    return torch.from_numpy(counts), torch.from_numpy(used)

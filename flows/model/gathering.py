"""This file gathers the arguments of a group from the tensors of earlier groups.

While a schedule is put together, `Gathering` knows the address of every slot, (tensor,
row). What it returns are fetches: functions of a run that give one argument as a tensor
[slot, row]. Numbers that the arguments share stay one tensor row.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from .dag import AffineTerms, Dag
from .jobs import Job, Slots, Work

__all__ = ["DENSE", "IN_TOTAL", "Fetch", "Gathering", "Run", "Step"]

DENSE = 4096
"""A fixed matrix of at most this many entries is kept once, and is always dense."""

IN_TOTAL = (-2, -2)
"""Address of densities that exist only as part of a sum."""

_CONSTANT = (-1, 0)

_MANY = 8
"""More tensors than this are joined before they are summed."""

_OFTEN = 0.25
"""A tensor of which this share of rows is read one by one is taken apart once."""


@dataclass(slots=True)
class Run:
    """The state of one run: tensors so far, constants in the right type, randomness."""

    tensors: list[Tensor]
    constants: Sequence[Tensor]
    num_rows: int
    generator: Generator | None
    is_forgiving: bool = False
    totals: list[Tensor] = field(default_factory=list)
    _rows: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    def row(self, tensor: int, row: int) -> Tensor:
        """Return a row of a tensor that is taken apart, [1, row].

        The gradient of a slice is as large as what it is of: of a chain, whose steps
        read their rows one by one, that would be the square of its length.
        """
        if tensor not in self._rows:
            self._rows[tensor] = self.tensors[tensor].unsqueeze(1).unbind()
        return self._rows[tensor][row]


Fetch = Callable[[Run], Tensor]
Step = Callable[[Run], None]


@dataclass(slots=True)
class Gathering:
    """The state of a schedule that is put together.

    Attributes:
        dag: The operations.
        work: What has to be computed.
        address: Where each slot's value stands: the tensor, and its row.
        heights: Number of rows of each tensor.
        constants: Tensors that do not depend on a run.
        finite: Whether finite inputs give a finite value, for slots where it was asked.
        deferred: Sums that are formed together with the densities that read them.
    """

    dag: Dag
    work: Work
    address: dict[int, tuple[int, int]] = field(default_factory=dict)
    heights: list[int] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    finite: dict[int, bool] = field(default_factory=dict)
    deferred: dict[int, AffineTerms] = field(default_factory=dict)
    _known: dict[Hashable, int] = field(default_factory=dict)
    _single: Counter[int] = field(default_factory=Counter)

    def register(self, slots: Sequence[int]) -> None:
        """Give slots the rows of the next tensor."""
        number = len(self.heights)
        self.heights.append(len(slots))
        for row, slot in enumerate(slots):
            self.address[slot] = (number, row)

    def register_bundles(self, slots: Sequence[int], size: int) -> None:
        """Give slots the first of `size` rows each of the next tensor."""
        number = len(self.heights)
        self.heights.append(size * len(slots))
        for position, slot in enumerate(slots):
            self.address[slot] = (number, position * size)

    def where(self, slot: int) -> tuple[int, int]:
        """Return the address of a slot; that of a constant is no tensor's."""
        return self.address.get(slot, _CONSTANT)

    def is_finite(self, slot: int) -> bool:
        """Return whether finite inputs give a finite value."""
        return self.finite.get(slot, slot in self.address)

    def has_constants_only(self, slots: Sequence[int]) -> bool:
        """Return whether all slots are numbers that are known now."""
        return all(map(self.dag.is_constant, slots))

    def constant(self, value: Tensor) -> int:
        """Return the number of a constant tensor; equal small ones are kept once."""
        key: Hashable = (value.shape, value.dtype, value.numpy().tobytes())
        if value.numel() > DENSE:
            self.constants.append(value)
            return len(self.constants) - 1
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.constants)
            self.constants.append(value)
        return known

    def column(self, values: Sequence[float]) -> int:
        """Return the number of a constant [slot, 1]."""
        return self.constant(torch.tensor(values, dtype=torch.float64)[:, None])

    def arguments(
        self, jobs: Sequence[Job], shapes: Sequence[tuple[int, ...]]
    ) -> list[Fetch]:
        """Return the fetches of all arguments of a group, each of its shape."""
        return [
            self.argument([job.arguments[i] for job in jobs], shape)
            for i, shape in enumerate(shapes)
        ]

    def argument(self, parts: Sequence[Slots], shape: tuple[int, ...] = ()) -> Fetch:
        """Return the fetch of one argument of a group, [slot, *shape, row].

        If all members have the same argument the slot dimension is 1.
        """
        if len(set(parts)) == 1:
            parts = parts[:1]
        fetch = self.rows([slot for part in parts for slot in part])
        if not shape:
            return fetch
        count = len(parts)

        def reshaped(run: Run) -> Tensor:
            flat = fetch(run)
            return flat.reshape(count, *shape, flat.shape[-1])

        return reshaped

    def rows(self, slots: Sequence[int]) -> Fetch:
        """Return the fetch of slots as a tensor [slot, row]."""
        if self.has_constants_only(slots):
            return self._from_one(_CONSTANT[0], slots)
        positions: dict[int, list[int]] = {}
        for position, slot in enumerate(slots):
            positions.setdefault(self.where(slot)[0], []).append(position)
        fetches = [
            self._from_one(tensor, [slots[position] for position in places])
            for tensor, places in positions.items()
        ]
        if len(fetches) == 1:
            return fetches[0]
        joined = _joined(fetches)
        order = [position for places in positions.values() for position in places]
        if order == sorted(order):
            return joined
        number = self.constant(torch.argsort(torch.tensor(order)))
        return lambda run: joined(run).index_select(0, run.constants[number])

    def total(self, slots: Slots) -> Fetch:
        """Return the fetch of the sum over slots, [row]."""
        by_tensor: dict[int, list[int]] = {}
        bias = 0.0
        for slot in slots:
            if self.dag.is_constant(slot):
                bias += self.dag.number(slot)
            elif self.address[slot] != IN_TOTAL:
                by_tensor.setdefault(self.where(slot)[0], []).append(slot)
        fetches = [
            self._from_one(tensor, sorted(parts, key=self.address.__getitem__))
            for tensor, parts in by_tensor.items()
        ]
        if len(fetches) > _MANY:
            fetches = [_joined(fetches)]

        def summed(run: Run) -> Tensor:
            result: Tensor | None = None
            for part in (*run.totals, *(fetch(run).sum(0) for fetch in fetches)):
                result = part if result is None else result + part
            if result is None:
                return run.tensors[0].new_full((run.num_rows,), bias)
            if bias:
                result = result + bias
            return result.expand(run.num_rows)

        return summed

    def _from_one(self, tensor: int, slots: Sequence[int]) -> Fetch:
        """Return the fetch of slots of one tensor, or of constants."""
        if tensor < 0:
            number = self.column([self.dag.number(slot) for slot in slots])
            return lambda run: run.constants[number]
        rows = [self.address[slot][1] for slot in slots]
        first, count = rows[0], len(rows)
        if rows == list(range(first, first + count)):
            if count == self.heights[tensor]:
                return lambda run: run.tensors[tensor]
            if count == 1:
                return self._row(tensor, first)
            return lambda run: run.tensors[tensor].narrow(0, first, count)
        number = self.constant(torch.tensor(rows))
        return lambda run: run.tensors[tensor].index_select(0, run.constants[number])

    def _row(self, tensor: int, row: int) -> Fetch:
        """Return the fetch of one row; how many others there are is known in a run."""
        self._single[tensor] += 1
        single, height = self._single, self.heights[tensor]

        def fetch(run: Run) -> Tensor:
            if single[tensor] >= max(2.0, _OFTEN * height):
                return run.row(tensor, row)
            return run.tensors[tensor].narrow(0, row, 1)

        return fetch


def _joined(fetches: Sequence[Fetch]) -> Fetch:
    def joined(run: Run) -> Tensor:
        parts = [fetch(run) for fetch in fetches]
        wide = max(part.shape[1] for part in parts)
        return torch.cat(
            [part if part.shape[1] == wide else part.expand(-1, wide) for part in parts]
        )

    return joined

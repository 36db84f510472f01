"""This file holds the scalar operations that link functions are made of.

All link functions of a graph become one directed acyclic graph of operations on scalar
slots. Equal operations are made once (hash consing), so a slot's number stands for its
value, and inputs always have smaller numbers than what reads them.

Sums, differences and products with constants are one operation, `affine`: a bias plus
coefficients times slots. Chains of them (the left folds of unrolled loops) are
flattened by `affine_terms`: depth then depends on the nonlinear steps only.
"""

import heapq
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["AffineTerms", "Dag", "Operation"]

_LARGEST_ROW = 512
"""Most terms of a flattened sum that reads sums which others need as well."""


@dataclass(frozen=True, slots=True)
class Operation:
    """How one slot is computed.

    Attributes:
        name: Kernel, or "constant", "variable", "affine".
        inputs: Slots that are read.
        attribute: What else distinguishes it: the value of a constant, the name of a
            variable, (coefficients, bias) of an affine form, a lookup table.
    """

    name: str
    inputs: tuple[int, ...] = ()
    attribute: Any = None


@dataclass(frozen=True, slots=True)
class AffineTerms:
    """A sum: bias + Σ coefficient · slot.

    Attributes:
        terms: Coefficient by slot; no zero coefficients are added by the flattening.
        bias: The constant.
    """

    terms: Mapping[int, float]
    bias: float


class Dag:
    """Makes operations so that equal ones have the same slot."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._slots: dict[Hashable, int] = {}
        self._numbers: dict[float, int] = {}

    def __len__(self) -> int:
        return len(self._operations)

    def __getitem__(self, slot: int) -> Operation:
        return self._operations[slot]

    def constant(self, value: float | int) -> int:
        """Return the slot of a number; nan and the two zeros are told apart."""
        number = float(value)
        if number and number in self._numbers:
            return self._numbers[number]
        slot = self._made("constant", (), number, number.hex())
        if number:
            self._numbers[number] = slot
        return slot

    def variable(self, name: Hashable) -> int:
        """Return the slot of a value that comes from outside, or from a draw."""
        return self._made("variable", (), name, name)

    def emit(self, name: str, inputs: Iterable[int], attribute: Hashable = None) -> int:
        """Return the slot of an operation."""
        return self._made(name, tuple(inputs), attribute, attribute)

    def affine(self, terms: Iterable[tuple[int, float]], bias: float) -> int:
        """Return the slot of bias + Σ coefficient · slot; constants are folded."""
        merged: dict[int, float] = {}
        for slot, coefficient in terms:
            operation = self._operations[slot]
            if operation.name == "constant":
                bias += coefficient * operation.attribute
            else:
                merged[slot] = merged.get(slot, 0.0) + coefficient
        if not merged:
            return self.constant(bias)
        if bias == 0.0 and len(merged) == 1:
            ((slot, coefficient),) = merged.items()
            if coefficient == 1.0:
                return slot
        ordered = sorted(merged.items())
        return self.emit(
            "affine",
            (slot for slot, _ in ordered),
            (tuple(coefficient for _, coefficient in ordered), bias),
        )

    def is_constant(self, slot: int) -> bool:
        """Return whether the slot is a number."""
        return self._operations[slot].name == "constant"

    def number(self, slot: int) -> float:
        """Return the number in a constant slot."""
        value = self._operations[slot].attribute
        return value if isinstance(value, float) else math.nan

    def affine_terms(self, demanded: Sequence[int]) -> Mapping[int, AffineTerms]:
        """Return every affine slot of `demanded` as a sum over non-affine slots.

        Inner sums that are not demanded disappear. An inner sum that is demanded
        itself stays as one term where the row waits for something else at least as
        long, as the steps of a nonlinear equation do. Else it is written out too,
        unless the row would grow beyond a fixed length: so running sums cost a
        bounded multiple of their number, not its square.

        Args:
            demanded: Slots of affine operations that something other than an affine
                operation reads.
        """
        made: dict[int, AffineTerms] = {}
        depths: list[int] = []
        for slot in sorted(demanded):
            self._add_depths(depths, slot)
            short = row = self._flattened(slot, made, write_out=False)
            deepest = max((depths[term] for term in row.terms), default=0)
            last = [term for term in row.terms if depths[term] == deepest]
            if all(term in made for term in last):
                row = self._flattened(slot, made, write_out=True)
                if len(row.terms) > _LARGEST_ROW:
                    row = short
            made[slot] = row
            depths.append(1 + max((depths[term] for term in row.terms), default=0))
        return made

    def _add_depths(self, depths: list[int], end: int) -> None:
        """Add how long each slot before `end` waits, in operations on the way."""
        for operation in self._operations[len(depths) : end]:
            waited = (depths[slot] for slot in operation.inputs)
            depths.append(1 + max(waited, default=-1))

    def _flattened(
        self, slot: int, made: Mapping[int, AffineTerms], *, write_out: bool
    ) -> AffineTerms:
        """Return the sum in `slot`, going down through inner sums by slot number."""
        waiting = {slot: 1.0}
        order = [-slot]
        terms: dict[int, float] = {}
        bias = 0.0
        while order:
            current = -heapq.heappop(order)
            weight = waiting.pop(current)
            if current != slot and current in made:
                if write_out:
                    inner = made[current]
                    bias += weight * inner.bias
                    for part, factor in inner.terms.items():
                        terms[part] = terms.get(part, 0.0) + weight * factor
                    if len(terms) > 2 * _LARGEST_ROW:
                        break
                else:
                    terms[current] = terms.get(current, 0.0) + weight
                continue
            operation = self._operations[current]
            if operation.name != "affine":
                terms[current] = terms.get(current, 0.0) + weight
                continue
            coefficients, constant = operation.attribute
            bias += weight * constant
            for part, factor in zip(operation.inputs, coefficients, strict=True):
                if part not in waiting:
                    waiting[part] = 0.0
                    heapq.heappush(order, -part)
                waiting[part] += weight * factor
        return AffineTerms(terms, bias)

    def _made(
        self, name: str, inputs: tuple[int, ...], attribute: Any, own: Hashable
    ) -> int:
        """Return the slot of an operation; `own` tells attributes apart."""
        key = (name, inputs, own)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = len(self._operations)
            self._operations.append(Operation(name, inputs, attribute))
        return slot

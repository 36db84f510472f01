"""This file turns a value of an observed node into columns, or says what is wrong.

A boolean becomes 0 or 1, a draw of `categorical` the index of its pair; values of numpy
and torch stand for what they hold. Data of the wrong type or shape, or outside the
support of its distribution, is an error; where the support depends on latents (a
`uniform-continuous` with a random bound) the density decides later.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from daphne_bridge.errors import shortened
from daphne_bridge.graph.expression import show_value
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import equal
from daphne_bridge.language.primitives.numbers import as_double

from .dag import Dag
from .lowered import Branch, Lowered

__all__ = ["Given", "Misfit", "encode"]

Value = Any


@dataclass(frozen=True, slots=True)
class Given:
    """Data that replace the document's.

    Attributes:
        values: By document's or program's own name of an observed node.
        places: Where each of them comes from, for messages.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


class Misfit(Exception):
    """Data does not fit; the arguments are what, expected, got."""


def encode(lowered: Lowered, value: Value, dag: Dag) -> tuple[float, ...]:
    """Return the columns of an observed value.

    Args:
        lowered: The node that is observed.
        value: The data.
        dag: Where the numbers among the parameters are found.

    Raises:
        Misfit: If the value is no draw of any distribution the node may have.
    """
    misfit: Misfit | None = None
    for branch in lowered.branches:
        try:
            return _encoded(branch, lowered, _plain(value), dag)
        except Misfit as problem:
            misfit = misfit or problem
    assert misfit is not None  # noqa: S101 - a node has at least one branch
    raise misfit


def _plain(value: Value) -> Value:
    """Return the value with lists and arrays as vectors, array scalars as numbers."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value


def _shown(value: Value) -> str:
    return shortened(show_value(value))


def _encoded(
    branch: Branch, lowered: Lowered, value: Value, dag: Dag
) -> tuple[float, ...]:
    if branch.family == "categorical":
        return (float(_category(lowered.categories, value)),)
    if branch.family == "flip":
        if not isinstance(value, bool):
            raise Misfit(
                "an observation of flip is no boolean", "true or false", _shown(value)
            )
        return (float(value),)
    if branch.family == "dirac" and isinstance(value, bool):
        return (float(value),)
    numbers = _numbers(branch.family, lowered.shape, value)
    known = [
        tuple(dag.number(slot) for slot in slots)
        if all(map(dag.is_constant, slots))
        else None
        for slots in branch.parameters
    ]
    expected = _violation(branch, numbers, known)
    if expected:
        raise Misfit(
            f"an observation is outside the support of {branch.family}",
            expected,
            _shown(value),
        )
    return numbers


def _category(categories: tuple[Value, ...], value: Value) -> int:
    for position, known in enumerate(categories):
        if equal(known, value):
            return position
    shown = ", ".join(_shown(known) for known in categories[:8])
    raise Misfit(
        "an observation is none of the values of categorical",
        f"one of {shown}{', ...' if len(categories) > 8 else ''}",
        _shown(value),
    )


def _numbers(family: str, shape: tuple[int, ...], value: Value) -> tuple[float, ...]:
    """Return a value of the given shape as numbers, flat."""
    words = ("a number", f"a vector of {shape[0]} numbers" if shape else "", "")
    expected = (
        words[len(shape)]
        if len(shape) < 2
        else f"a matrix of {shape[0]} rows of {shape[1]} numbers"
    )
    items: list[Value] = [value]
    for length in shape:
        if any(not isinstance(item, tuple) or len(item) != length for item in items):
            raise Misfit(
                f"an observation of {family} has the wrong shape",
                expected,
                _shown(value),
            )
        items = [part for item in items for part in item]
    for item in items:
        if isinstance(item, bool) or not isinstance(
            item, int | float | Fraction | Decimal
        ):
            raise Misfit(
                f"an observation of {family} has the wrong type",
                expected,
                _shown(value),
            )
        if not math.isfinite(as_double(item)):
            raise Misfit(
                f"an observation of {family} is not finite", expected, _shown(value)
            )
    return tuple(float(item) for item in items)


_Known = list[tuple[float, ...] | None]


def _violation(branch: Branch, numbers: tuple[float, ...], known: _Known) -> str:
    """Return what was expected of the numbers, "" if they are in the support."""
    check = _CHECKS.get(FAMILIES[branch.family].support)
    return check(branch, numbers, known) if check else ""


def _above(
    low: float, expected: str, *, strictly: bool
) -> Callable[[Branch, tuple[float, ...], _Known], str]:
    def check(_branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
        fits = numbers[0] > low if strictly else numbers[0] >= low
        return "" if fits else expected

    return check


def _unit(_branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
    return "" if 0.0 < numbers[0] < 1.0 else "a number between 0 and 1"


def _bit(_branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
    return "" if numbers[0] in (0.0, 1.0) else "0 or 1"


def _between(_branch: Branch, numbers: tuple[float, ...], known: _Known) -> str:
    low = known[-2][0] if known[-2] else -math.inf
    high = known[-1][0] if known[-1] else math.inf
    if low <= numbers[0] <= high:
        return ""
    return f"a number from {low} to {high}"


def _count(
    _branch: Branch, numbers: tuple[float, ...], _known: _Known, top: float = math.inf
) -> str:
    if numbers[0] == math.floor(numbers[0]) and 0 <= numbers[0] <= top:
        return ""
    most = f", at most {top:g}" if top < math.inf else ""
    return f"a whole number of at least 0{most}"


def _index(branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
    size = branch.shapes[0][0]
    if numbers[0] == math.floor(numbers[0]) and 0 <= numbers[0] < size:
        return ""
    return f"a whole number from 0 to {size - 1}"


def _whole_between(branch: Branch, numbers: tuple[float, ...], known: _Known) -> str:
    if branch.family == "binomial":
        return _count(branch, numbers, known, known[0][0] if known[0] else math.inf)
    low = known[0][0] if known[0] else -math.inf
    high = known[1][0] if known[1] else math.inf
    if numbers[0] == math.floor(numbers[0]) and low <= numbers[0] < high:
        return ""
    return f"a whole number from {low:g} to {high:g}, exclusive"


def _simplex(_branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
    if min(numbers) >= 0.0 and abs(math.fsum(numbers) - 1.0) <= 1e-6:
        return ""
    return "numbers that are not negative and sum to 1"


def _matrix(_branch: Branch, numbers: tuple[float, ...], _known: _Known) -> str:
    size = math.isqrt(len(numbers))
    matrix = torch.tensor(numbers, dtype=torch.float64).view(size, size)
    fits = torch.equal(matrix, matrix.mT) and not bool(
        torch.linalg.cholesky_ex(matrix)[1]
    )
    return "" if fits else "a symmetric positive definite matrix"


_CHECKS: Mapping[str, Callable[[Branch, tuple[float, ...], _Known], str]] = {
    "positive": _above(0.0, "a positive number", strictly=True),
    "nonnegative": _above(0.0, "a number of at least 0", strictly=False),
    "unit interval": _unit,
    "interval": _between,
    "zero or one": _bit,
    "integers from zero": _count,
    "integer interval": _whole_between,
    "index": _index,
    "simplex": _simplex,
    "positive definite matrix": _matrix,
}
"""What is expected of numbers by the support; "" where they are in it."""

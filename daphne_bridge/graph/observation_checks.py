"""This file finds what is wrong with the data of an observed node."""

import math
from collections.abc import Callable, Iterator

from ..errors import Problem
from ..language.families import FAMILIES, Family
from ..language.primitives.numbers import as_double
from .expression import Call, Value, show_value
from .graph import Node
from .known_parts import constant_of, is_number, length_of

__all__ = ["observation_problem"]


def observation_problem(
    node: Node, family: Family, value: Value, where: str
) -> Iterator[Problem]:
    """Yield what is wrong with data for a node of one family, if anything.

    Args:
        node: The observed node.
        family: Its only family.
        value: The data.
        where: Place for the message.
    """
    what = f"the observation of {node.label}"

    def wrong(expected: str) -> Problem:
        return Problem(where, what, expected, show_value(value)[:60])

    if family.support == "point":
        if not isinstance(value, bool) and not is_number(value):
            yield wrong("a number, true or false")
        return
    if family.event == "scalar" and family.support not in ("category", "boolean"):
        if not is_number(value):
            yield wrong("a number")
            return
        if not math.isfinite(as_double(value)):
            yield wrong("a finite number")
            return
    support = family.support
    if support == "boolean":
        if not isinstance(value, bool):
            yield wrong("true or false")
    elif support in ("positive", "nonnegative") and not (
        value > 0 if support == "positive" else value >= 0
    ):
        yield wrong("a positive number" if support == "positive" else "a number >= 0")
    elif support == "unit interval" and not 0 < value < 1:
        yield wrong("a number between 0 and 1")
    elif support == "zero or one" and value not in (0, 1):
        yield wrong("0 or 1")
    elif support in ("integers from zero", "index", "integer interval"):
        if value != int(value) or (support != "integer interval" and value < 0):
            yield wrong("a whole number" + ("" if "interval" in support else " from 0"))
        else:
            yield from _outside_bounds(node, value, wrong)
    elif support == "interval":
        yield from _outside_bounds(node, value, wrong)
    elif family.event != "scalar" and not isinstance(value, tuple):
        yield wrong(f"a {family.event}")


def _outside_bounds(
    node: Node, value: Value, wrong: Callable[[str], Problem]
) -> Iterator[Problem]:
    """Yield a problem if a number lies outside bounds that are constants."""
    call = node.distribution
    if not isinstance(call, Call) or call.head not in FAMILIES:
        return
    family = FAMILIES[call.head]
    if family.support == "index":
        size = length_of(call.arguments[0])
        if size is not None and not 0 <= value < size:
            yield wrong(f"a whole number from 0 to {size - 1}")
        return
    if family.name == "binomial":
        low, high = 0, constant_of(call.arguments[0])
    elif family.support in ("interval", "integer interval"):
        low, high = map(constant_of, call.arguments[-2:])
    else:
        return
    is_below_top = family.name != "uniform-discrete"
    if low is not None and value < low:
        yield wrong(f"a number of at least {show_value(low)}")
    elif high is not None and (value > high or (value == high and not is_below_top)):
        word = "at most" if is_below_top else "below"
        yield wrong(f"a number {word} {show_value(high)}")

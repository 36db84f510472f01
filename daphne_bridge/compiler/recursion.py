"""This file runs recursive functions of any depth without Python's stack.

A recursive function is written as a generator: `value = yield other(argument)` stands
for `value = other(argument)`, and `return` ends it. `run` keeps the waiting generators
in a list, so that the depth is bounded by memory alone.
"""

from collections.abc import Generator, Iterable
from typing import Any, TypeVar

__all__ = ["Recursive", "each", "run"]

Result = TypeVar("Result")

Recursive = Generator[Any, Any, Result]
"""A recursive function's call that has not been run yet."""


def each(calls: Iterable[Recursive[Result]]) -> Recursive[tuple[Result, ...]]:
    """Return the results of several calls, in order."""
    results = []
    for call in calls:
        results.append((yield call))
    return tuple(results)


def run(call: Recursive[Result]) -> Result:
    """Return the result of `call`, running the calls that it yields."""
    waiting: list[Recursive[Any]] = [call]
    value: Any = None
    while waiting:
        try:
            inner = waiting[-1].send(value)
        except StopIteration as stop:
            waiting.pop()
            value = stop.value
        else:
            waiting.append(inner)
            value = None
    return value  # type: ignore[no-any-return]

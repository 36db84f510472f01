"""This file unrolls the functions that call functions: map, reduce, filter, ...

The collections have known lengths; the functions are the language's or the program's.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..language.primitives import (
    HashMap,
    Keyword,
    truthy,
)
from .analyser import Analyser, HigherOrder
from .collection_terms import sequence
from .description import described
from .evaluation import call_function, decided
from .forms import Compound, Symbol, head_name, show
from .partial_evaluation import partial_evaluation
from .recursion import Recursive
from .symbolic_simplify import unrolled
from .terms import UNKNOWN, FunctionTerm, MapTerm

__all__ = ["HIGHER_ORDER"]

_LONGEST = 100
"""Characters of a program that a message writes out."""


def map_(analyser: Analyser, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
    """Return `(map f collection ...)` as a sequence."""
    return sequence((yield _mapped(analyser, values, form)), is_vector=False)


def mapv(analyser: Analyser, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
    """Return `(mapv f collection ...)` as a vector."""
    return sequence((yield _mapped(analyser, values, form)))


def map_indexed(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return `(map-indexed f collection)` as a sequence."""
    if len(values) != 2:
        raise _wrong_count(analyser, form, "(map-indexed f collection)")
    indices = tuple(range(len(_known_elements(analyser, values[1], form))))
    rows = yield _mapped(analyser, (values[0], indices, values[1]), form)
    return sequence(rows, is_vector=False)


def _mapped(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[tuple[Any, ...]]:
    if len(values) < 2:
        raise _wrong_count(analyser, form, "(map f collection ...)")
    function = _function(analyser, values[0], form)
    columns = [_known_elements(analyser, c, form) for c in values[1:]]
    results = []
    for row in zip(*columns, strict=False):
        analyser.count_steps(form)
        results.append((yield call_function(analyser, function, row, form)))
    return tuple(results)


def reduce_(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return `(reduce f collection)` or `(reduce f start collection)`."""
    return (yield _reduced(analyser, values, form))[-1]


def apply_(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return `(apply f argument ... collection)`."""
    if len(values) < 2:
        raise _wrong_count(analyser, form, "(apply f argument ... collection)")
    function = _function(analyser, values[0], form)
    rest = _known_elements(analyser, values[-1], form)
    return (yield call_function(analyser, function, (*values[1:-1], *rest), form))


def filter_(
    analyser: Analyser, values: tuple[Any, ...], form: Compound, *, name: str
) -> Recursive[Any]:
    """Return the elements that `filter`, `filterv` or `remove` keeps."""
    if len(values) != 2:
        raise _wrong_count(analyser, form, f"({name} f collection)")
    items = _known_elements(analyser, values[1], form)
    kept = []
    for item, verdict in zip(
        items, (yield _verdicts(analyser, values, form, name)), strict=True
    ):
        if truthy(verdict) != (name == "remove"):
            kept.append(item)
    return sequence(tuple(kept), is_vector=name == "filterv")


def mapcat(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return the collections that `(mapcat f collection ...)` makes, joined."""
    parts = yield _mapped(analyser, values, form)
    joined = [x for part in parts for x in _known_elements(analyser, part, form)]
    return sequence(tuple(joined), is_vector=False)


def reductions(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return every result on the way of a `reduce`."""
    results = yield _reduced(analyser, values, form)
    return sequence(tuple(results), is_vector=False)


def while_(
    analyser: Analyser, values: tuple[Any, ...], form: Compound, *, name: str
) -> Recursive[Any]:
    """Return the elements before `take-while`'s, or from `drop-while`'s first miss."""
    if len(values) != 2:
        raise _wrong_count(analyser, form, f"({name} f collection)")
    items = _known_elements(analyser, values[1], form)
    verdicts = yield _verdicts(analyser, values, form, name)
    misses = [i for i, verdict in enumerate(verdicts) if not truthy(verdict)]
    at = misses[0] if misses else len(items)
    kept = items[:at] if name == "take-while" else items[at:]
    return sequence(kept, is_vector=False)


def update(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return `(update collection key f argument ...)`."""
    if len(values) < 3:
        raise _wrong_count(analyser, form, "(update collection key f argument ...)")
    collection, key, function, *rest = values
    get, put = (FunctionTerm(name, None, form.span) for name in ("get", "put"))
    function = _function(analyser, function, form)
    before = yield call_function(analyser, get, (collection, key), form)
    after = yield call_function(analyser, function, (before, *rest), form)
    return (yield call_function(analyser, put, (collection, key, after), form))


def every(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return whether all elements pass; random tests are joined by `and`."""
    if len(values) != 2:
        raise _wrong_count(analyser, form, "(every? f collection)")
    tests = yield _mapped(analyser, values, form)
    return partial_evaluation("and", (True, *tests)) if tests else True


def some(analyser: Analyser, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
    """Return the first test that is true; random tests are joined by `or`."""
    if len(values) != 2:
        raise _wrong_count(analyser, form, "(some f collection)")
    tests = yield _mapped(analyser, values, form)
    return partial_evaluation("or", tests) if tests else None


def _verdicts(
    analyser: Analyser, values: tuple[Any, ...], form: Compound, name: str
) -> Recursive[list[Any]]:
    verdicts = [decided(v) for v in (yield _mapped(analyser, values, form))]
    if any(v is UNKNOWN for v in verdicts):
        raise analyser.error(
            form,
            "a random test decides how many elements there are",
            f"a test that is known at compile time{_or_count(form, name)}",
        )
    return verdicts


def _or_count(form: Compound, name: str) -> str:
    """Return how what `filter` or `remove` keeps is counted, for a message."""
    if head_name(form) != name or name not in ("filter", "filterv", "remove"):
        return ""
    match form.items[1]:
        case Compound(items=(Symbol("fn"), Compound(items=(Symbol(parameter),)), body)):
            test = show(body)
        case function:
            parameter, test = "x", f"({show(function)} x)"
    numbers = "0 1" if name == "remove" else "1 0"
    mapped = f"(fn [{parameter}] (if {test} {numbers})) {show(form.items[2])}"
    if len(mapped) > _LONGEST:
        mapped = f"(fn [x] (if (test x) {numbers})) xs"
    return f", or for their count (reduce + (map {mapped}))"


def _function(analyser: Analyser, value: Any, form: Compound) -> Any:
    is_callable = isinstance(value, (FunctionTerm, Keyword, HashMap, MapTerm))
    if not is_callable:
        raise analyser.error(
            form,
            "the first argument is no function",
            "a function",
            described(value),
        )
    return value


def _known_elements(analyser: Analyser, value: Any, form: Compound) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, (HashMap, MapTerm)):
        entries = value if isinstance(value, HashMap) else value.entries
        return tuple(sequence(pair) for pair in entries.pairs())
    items = unrolled(value)
    if items is None:
        raise analyser.error(
            form,
            f"{head_name(form)} needs a collection of known length",
            "a vector or sequence",
            described(value),
        )
    return items


def _wrong_count(analyser: Analyser, form: Compound, shape: str) -> Exception:
    return analyser.error(
        form, f"{head_name(form)} has the wrong number of arguments", shape
    )


def _reduced(
    analyser: Analyser, values: tuple[Any, ...], form: Compound
) -> Recursive[list[Any]]:
    """Return the start of a reduction and the result after each element."""
    if not 2 <= len(values) <= 3:
        head = head_name(form)
        raise _wrong_count(analyser, form, f"({head} f start collection)")
    function = _function(analyser, values[0], form)
    items = (*values[1:-1], *_known_elements(analyser, values[-1], form))
    if not items:
        return [(yield call_function(analyser, function, (), form))]
    results = [items[0]]
    for item in items[1:]:
        analyser.count_steps(form)
        pair = (results[-1], item)
        results.append((yield call_function(analyser, function, pair, form)))
    return results


HIGHER_ORDER: Mapping[str, HigherOrder] = {
    "map": map_,
    "mapv": mapv,
    "map-indexed": map_indexed,
    "reduce": reduce_,
    "apply": apply_,
    "filter": partial(filter_, name="filter"),
    "filterv": partial(filter_, name="filterv"),
    "remove": partial(filter_, name="remove"),
    "mapcat": mapcat,
    "reductions": reductions,
    "take-while": partial(while_, name="take-while"),
    "drop-while": partial(while_, name="drop-while"),
    "update": update,
    "every?": every,
    "some": some,
}
"""The functions by name."""

"""This file evaluates the forms that bind names: let, loop and foreach."""

from typing import Any

from ..language.primitives import HashMap
from .analyser import Analyser
from .collection_terms import sequence
from .description import described
from .desugar import bindings, unroll_limit
from .distributions import is_distribution
from .evaluation import (
    call_function,
    evaluate,
    evaluate_all,
    evaluate_atom,
    evaluate_body,
    function_named,
)
from .forms import Compound, Form, Symbol, head_name
from .partial_evaluation import forced, partial_evaluation
from .recursion import Recursive
from .substitution import Binding
from .symbolic_simplify import elements
from .terms import (
    UNKNOWN,
    CallTerm,
    LetTerm,
    LocalTerm,
    MapTerm,
    NodeTerm,
    SequenceTerm,
    is_constant,
    settled,
)

__all__ = ["element", "foreach", "let", "loop", "turns_of"]


def let(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(let [name form ...] body ...)`."""
    if len(form.items) < 2:
        raise analyser.error(form, "let has no binding vector", "(let [name form] ...)")
    _require_body(analyser, form, 2)
    pairs = bindings(form.items[1], analyser.source)
    place = analyser.place
    before = place.is_simplified
    entered = []
    value: Any = UNKNOWN
    for name, bound in pairs:
        value = (
            (yield evaluate(analyser, bound))
            if isinstance(bound, Compound)
            else evaluate_atom(analyser, bound)
        )
        _label_parts(analyser, name.name, bound, value)
        entered.append(analyser.bind(name.name, value))
        place.is_simplified = True
    place.is_simplified = True
    bodies = yield from evaluate_all(analyser, form.items[2:])
    result = bodies[-1]
    place.is_simplified = before
    place.scope.leave(reversed(entered))
    innermost = bodies[-2] if len(bodies) > 1 else value
    is_closed = innermost is not UNKNOWN and is_constant(innermost)
    is_nested = before or len(pairs) + len(bodies) > 2
    return forced(result) if is_closed and is_nested else result


def _require_body(analyser: Analyser, form: Compound, start: int) -> None:
    """Refuse a `let` or `foreach` that has a binding vector only."""
    if len(form.items) == start:
        raise analyser.error(
            form, f"{head_name(form)} has no body", "a form after the names"
        )


def _label_parts(analyser: Analyser, name: str, bound: Form, value: Any) -> None:
    """Call the variables made by a written vector or a foreach by its name."""
    if not isinstance(bound, Compound) or not isinstance(value, SequenceTerm):
        return
    if bound.kind != "vector" and head_name(bound) != "foreach":
        return
    work = [value]
    while work:
        for item in work.pop().items:
            if isinstance(item, NodeTerm):
                analyser.label(item, name)
            elif isinstance(item, SequenceTerm):
                work.append(item)


def loop(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(loop count accumulator function argument ...)`."""
    if len(form.items) < 4:
        raise analyser.error(
            form,
            "loop has too few parts",
            "(loop count accumulator function argument ...)",
            f"{len(form.items) - 1} parts",
        )
    _, count_form, start, head, *rest = form.items
    turns = yield from turns_of(analyser, count_form, "loop")
    arguments = yield from evaluate_all(analyser, tuple(rest))
    (accumulator,) = yield from evaluate_all(analyser, (start,))
    function = (
        function_named(analyser, head)
        if isinstance(head, Symbol)
        else (yield evaluate(analyser, head))
    )
    for turn in range(turns):
        analyser.count_steps(form)
        accumulator = yield from call_function(
            analyser, function, (turn, accumulator, *arguments), form
        )
    return accumulator


def foreach(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the vector `(foreach count [name collection ...] body ...)`."""
    if len(form.items) < 3:
        raise analyser.error(
            form, "foreach has no binding vector", "(foreach count [...] body ...)"
        )
    turns = yield from turns_of(analyser, form.items[1], "foreach")
    pairs = bindings(form.items[2], analyser.source, "foreach")
    _require_body(analyser, form, 3)
    if turns == 0:
        return ()
    collections = yield from evaluate_all(analyser, tuple(bound for _, bound in pairs))
    bodies = form.items[3:]
    place = analyser.place
    before, place.is_simplified = place.is_simplified, True
    results = []
    for turn in range(turns):
        analyser.count_steps(form)
        entered = []
        value: Any = UNKNOWN
        for (name, bound), collection in zip(pairs, collections, strict=True):
            value = element(analyser, collection, turn, turns, bound)
            entered.append((name.name, _enter_quietly(analyser, name.name, value)))
        result = yield from evaluate_body(analyser, bodies)
        place.scope.leave(reversed(entered))
        is_closed = value is not UNKNOWN and is_constant(value)
        is_forced = is_closed and len(bodies) == 1
        results.append(forced(result) if is_forced else result)
    place.is_simplified = before
    return sequence(tuple(results))


def _enter_quietly(analyser: Analyser, name: str, value: Any) -> Binding | None:
    """Bind without labelling: an element keeps the collection's label."""
    return analyser.place.scope.enter(name, Binding(value, not is_constant(value)))


def turns_of(analyser: Analyser, form: Form, what: str) -> Recursive[int]:
    """Return how often a loop or foreach with the count `form` runs."""
    value = settled((yield evaluate(analyser, form)))
    if not isinstance(value, int) or isinstance(value, bool):
        raise analyser.error(
            form,
            f"{what} runs a number of times that is known at compile time",
            "an integer",
            "a random value" if value is UNKNOWN else described(value),
        )
    if value < 0 and what == "foreach":
        return 0
    if error := unroll_limit(value, form.span, analyser.source):
        raise error
    return int(value)


def element(
    analyser: Analyser, collection: Any, index: int, turns: int, form: Form
) -> Any:
    """Return the element of a collection that a turn of a foreach takes."""
    items = elements(collection)
    if items is not None:
        if index < len(items):
            return items[index]
        raise analyser.error(
            form,
            "foreach takes more elements than there are",
            f"at least {turns}",
            str(len(items)),
        )
    if isinstance(
        collection, (MapTerm, HashMap, NodeTerm, CallTerm, LetTerm, LocalTerm)
    ):
        if is_distribution(collection):
            raise analyser.error(
                form, "foreach goes over a collection", "a vector", "a distribution"
            )
        return partial_evaluation("get", (collection, index))
    raise analyser.error(
        form, "foreach goes over a collection", "a vector", described(collection)
    )

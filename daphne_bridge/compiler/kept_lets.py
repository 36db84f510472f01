"""This file keeps the lets that Daphne leaves in the link function of an observe.

Daphne looks for variables in the distribution and the value of an observe, but writes
both as they were before: there a name bound to a random value stays a name.

    (observe (normal (let [m (+ w 1)] (* m m)) 1) 3)
      ->  ["normal", ["let", ["m", ["+", "w0", 1]], ["*", "m", "m"]], 1]
    (foreach 2 [x [1 2]] (* w x))
      ->  ["vector", ["let", ["x", 1], ["*", "w0", 1]], ["let", ["x", 2], ...]]

A let goes where it binds a constant and what it encloses becomes one. The lets are kept
for the text alone: what an observe means is settled by its value. Forms that draw, or
that call functions of the program, stand in the document by their value.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

from ..errors import CompileError
from .analyser import Analyser, Handler
from .binding_forms import element, turns_of
from .collection_terms import sequence
from .desugar import bindings
from .evaluation import call_function, evaluate, evaluate_all, function_named
from .forms import Compound, Form, Symbol, symbols
from .partial_evaluation import forced
from .recursion import Recursive, run
from .substitution import Binding, Scope
from .terms import (
    UNKNOWN,
    FunctionTerm,
    LetTerm,
    LocalTerm,
    MapTerm,
    SequenceTerm,
    is_constant,
    known,
)

__all__ = ["with_lets"]


def with_lets(analyser: Analyser, form: Form, value: Any) -> Any:
    """Return `value` as Daphne writes it in an observe: with the lets of `form`.

    Args:
        analyser: The analysis, at the place of the observe.
        form: The distribution or the observed value.
        value: What it evaluates to.
    """
    names = {symbol.name for symbol in symbols(form)}
    if not names & _KEPT.keys() or _may_act(analyser, names):
        return value
    place, special = analyser.place, analyser.special
    bound = {name: place.scope.look_up(name) for name in place.scope.names()}
    analyser.place = analyser.fresh_place()
    analyser.place.scope = Scope({n: b for n, b in bound.items() if b is not None})
    analyser.place.is_simplified = True
    analyser.special = {**special, **_KEPT}
    try:
        return run(evaluate(analyser, form))
    except CompileError:
        return value  # it needs to know what a name stands for
    finally:
        analyser.place, analyser.special = place, special


def _may_act(analyser: Analyser, names: set[str]) -> bool:
    """Return whether a form with these names may draw, observe or call the program."""
    if names & {"sample", "observe"} or any(map(analyser.function, names)):
        return True
    bound = filter(None, map(analyser.place.scope.look_up, names))
    return any(isinstance(b.value, FunctionTerm) for b in bound)


def _let(analyser: Analyser, form: Compound) -> Recursive[Any]:
    pairs = [(n.name, bound) for n, bound in bindings(form.items[1], analyser.source)]
    *unused, body = form.items[2:]
    pairs += [(_fresh(analyser, "dontcare"), bound) for bound in unused]
    opened = []
    for name, bound in pairs:
        (value,) = yield evaluate_all(analyser, (bound,))
        opened.append(_open(analyser, name, value))
    (result,) = yield evaluate_all(analyser, (body,))
    return _close(analyser, opened, result)


def _foreach(analyser: Analyser, form: Compound) -> Recursive[Any]:
    turns = yield turns_of(analyser, form.items[1], "foreach")
    pairs = bindings(form.items[2], analyser.source, "foreach")
    span = form.span
    collections = yield evaluate_all(analyser, tuple(bound for _, bound in pairs))
    body = Compound(
        "list",
        (Symbol("let", span), Compound("vector", (), span), *form.items[3:]),
        span,
    )
    rows = []
    for turn in range(turns):
        analyser.count_steps(form)
        opened = []
        for (name, bound), collection in zip(pairs, collections, strict=True):
            value = element(analyser, collection, turn, turns, bound)
            opened.append(_open(analyser, name.name, value))
        rows.append(_close(analyser, opened, (yield evaluate(analyser, body))))
    return sequence(tuple(rows))


def _loop(analyser: Analyser, form: Compound) -> Recursive[Any]:
    _, count_form, start, head, *rest = form.items
    turns = yield turns_of(analyser, count_form, "loop")
    opened = []
    arguments = []
    for value in (yield evaluate_all(analyser, tuple(rest))):
        opened.append(_open(analyser, _fresh(analyser, "a"), value))
        arguments.append(_bound(analyser, opened[-1][0]))
    (accumulator,) = yield evaluate_all(analyser, (start,))
    function = function_named(analyser, head) if isinstance(head, Symbol) else None
    for turn in range(turns):
        analyser.count_steps(form)
        value = yield call_function(
            analyser, function, (turn, accumulator, *arguments), form
        )
        opened.append(_open(analyser, _fresh(analyser, "acc"), value))
        accumulator = _bound(analyser, opened[-1][0])
    return _close(analyser, opened, accumulator)


_KEPT: Mapping[str, Handler] = {"let": _let, "foreach": _foreach, "loop": _loop}

_Opened = tuple[str, Any, Binding | None]


def _open(analyser: Analyser, name: str, value: Any) -> _Opened:
    """Bind a name to a value without symbols, or else to itself."""
    if _has_symbol(value):
        binding = Binding(LocalTerm(name), is_late=True)
        return name, value, analyser.place.scope.enter(name, binding)
    return name, value, analyser.bind(name, value)[1]


def _bound(analyser: Analyser, name: str) -> Any:
    binding = analyser.place.scope.look_up(name)
    return None if binding is None else binding.value


def _close(analyser: Analyser, opened: list[_Opened], result: Any) -> Any:
    """Return the nested lets of what was opened around `result`."""
    for name, value, before in reversed(opened):
        analyser.place.scope.leave([(name, before)])
        is_closed = not _has_symbol(value)
        if is_closed and known(result) is not UNKNOWN:
            result = forced(result)
        elif not is_closed or _has_symbol(result):
            result = LetTerm(name, value, result)
    return result


def _has_symbol(value: Any) -> bool:
    """Return whether Daphne sees a name in a value; it does not look into maps."""
    work = [value]
    while work:
        item = work.pop()
        if isinstance(item, SequenceTerm):
            work.extend(item.items)
        elif not is_constant(item) and not isinstance(item, MapTerm):
            return True
    return False


def _fresh(analyser: Analyser, stem: str) -> str:
    """Return a name for a let that nothing in the program has."""
    names = (f"{stem}{i}" for i in count())
    look_up, others = (
        analyser.place.scope.look_up,
        (analyser.by_name, analyser.reserved),
    )
    return next(
        name
        for name in names
        if look_up(name) is None and not any(name in taken for taken in others)
    )

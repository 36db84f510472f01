"""This file evaluates the branching and threading forms of Clojure, and quotes."""

from typing import Any

from ..language.primitives import Seq
from .analyser import Analyser
from .evaluation import (
    branches,
    evaluate,
    evaluate_atom,
    evaluate_body,
    map_of,
)
from .forms import Compound, Form, Literal, Span, Symbol, head_name, symbols
from .recursion import Recursive, each

__all__ = [
    "case",
    "cond",
    "conditional",
    "do",
    "quote",
    "thread",
    "unsupported",
    "when",
]


def conditional(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(if condition then else)` or `if-not`."""
    head = head_name(form)
    analyser.check_parts(form, 2, 3, f"({head} condition then else)")
    then, otherwise = (*form.items[2:], Literal(None, form.span))[:2]
    if head == "if-not":
        then, otherwise = otherwise, then
    condition = yield evaluate(analyser, form.items[1])
    return (yield branches(analyser, condition, then, otherwise, form))


def do(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(do body ...)`."""
    return (yield evaluate_body(analyser, form.items[1:]))


def when(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(when condition body ...)` or `when-not`."""
    if len(form.items) < 2:
        raise analyser.error(
            form, f"{head_name(form)} has no condition", "(when condition body ...)"
        )
    body = _written_list(form.span, Symbol("do", form.span), *form.items[2:])
    nothing = Literal(None, form.span)
    condition = yield evaluate(analyser, form.items[1])
    if head_name(form) == "when":
        return (yield branches(analyser, condition, body, nothing, form))
    return (yield branches(analyser, condition, nothing, body, form))


def cond(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(cond test value ...)`."""
    clauses = form.items[1:]
    if len(clauses) % 2:
        raise analyser.error(
            form, "cond has a test without a value", "an even number of forms"
        )
    rest: Form = Literal(None, form.span)
    for test, value in zip(clauses[-2::-2], clauses[::-2], strict=True):
        rest = _call("if", test, value, rest)
    return (yield evaluate(analyser, rest))


def case(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(case value constant result ... default)`.

    A list of constants stands for each of them. Without a match and a default there is
    no value.
    """
    if len(form.items) < 3:
        raise analyser.error(
            form, "case has too few parts", "(case value constant result ... default)"
        )
    value, *clauses = form.items[1:]
    name = Symbol("case value", value.span)
    rest: Form = clauses.pop() if len(clauses) % 2 else Literal(None, form.span)
    for constant, result in zip(clauses[-2::-2], clauses[::-2], strict=True):
        constants: tuple[Form, ...] = (constant,)
        if isinstance(constant, Compound) and constant.kind == "list":
            constants = constant.items
        tests = [_call("=", name, _call("quote", each)) for each in constants]
        if not tests:
            raise analyser.error(constant, "case has a list without constants")
        test = tests[0] if len(tests) == 1 else _call("or", *tests)
        rest = _call("if", test, result, rest)
    bound = Compound("vector", (name, value), form.span)
    return (yield evaluate(analyser, _call("let", bound, rest)))


def thread(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of `(-> x (f a) ...)` or `->>`."""
    if len(form.items) < 2:
        raise analyser.error(
            form, f"{head_name(form)} has nothing to pass on", "(-> value call ...)"
        )
    value = form.items[1]
    is_first = head_name(form) == "->"
    for step in form.items[2:]:
        if isinstance(step, Compound) and step.kind == "list" and step.items:
            head, *rest = step.items
            rest = [value, *rest] if is_first else [*rest, value]
            value = _written_list(step.span, head, *rest)
        else:
            value = _written_list(step.span, step, value)
    return (yield evaluate(analyser, value))


def quote(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return a quoted form as data; lists become sequences."""
    if len(form.items) != 2:
        raise analyser.error(form, "quote takes one form", "(quote form)")
    for symbol in symbols(form.items[1]):
        raise analyser.error(
            symbol, "a quoted symbol has no value", "constants", symbol.name
        )
    return (yield _quoted(analyser, form.items[1]))


def _quoted(analyser: Analyser, form: Form) -> Recursive[Any]:
    if not isinstance(form, Compound):
        return evaluate_atom(analyser, form)
    items = yield each(_quoted(analyser, item) for item in form.items)
    if form.kind == "map":
        return map_of(analyser, form, list(zip(items[::2], items[1::2], strict=True)))
    return items if form.kind == "vector" else Seq(items)


def unsupported(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Refuse a form of Clojure that the language does not have."""
    raise analyser.error(
        form,
        f"{head_name(form)} is not part of the language",
        "let, if, cond, case, when, foreach, loop, defn or a function",
        head_name(form) or "",
    )
    yield  # a handler is a generator


def _call(head: str, first: Form, *rest: Form) -> Compound:
    return _written_list(first.span, Symbol(head, first.span), first, *rest)


def _written_list(span: Span, *items: Form) -> Compound:
    return Compound("list", items, span)

"""This file writes an expression so that every function calls another with its value.

    x              ->  (k x)
    (f (g x))      ->  (g x (fn [cps0] (f cps0 k)))
    (fn [x] b)     ->  (k (fn [x k0] B)),  B the body with k0
    (if p a b)     ->  P, p with (fn [cps0] (if cps0 A B))

Arguments are worked out from left to right, and the last argument of each call is what
is done with its value. What follows an `if` among arguments stands in both branches.

Source: section 6.4 of the book that `addresses.py` names.
"""

from dataclasses import dataclass

from .forms import Compound, Form, Literal, Symbol, head_name
from .hoppl import Fresh, call, function
from .recursion import Recursive, each, run

__all__ = ["with_continuations"]


def with_continuations(form: Form, then: Symbol, fresh: Fresh) -> Form:
    """Return an expression that ends with a call of a function with its value.

    Args:
        form: As `hoppl` makes it.
        then: Name of this function.
        fresh: Numbers names.
    """
    return run(_passed(form, then, fresh))


@dataclass(frozen=True, slots=True)
class _Step:
    """A part of a call that is worked out before it, and the name of its value.

    Attributes:
        name: What stands for its value.
        form: A call that lacks what is done with its value; or an expression in which
            `hole` stands for that.
        hole: None for a call.
    """

    name: Symbol
    form: Form
    hole: Symbol | None


def _passed(form: Form, then: Form, fresh: Fresh) -> Recursive[Form]:
    result: Form = then
    if head_name(form) == "fn":
        return call(then, (yield _function(form, fresh)))
    if head_name(form) == "if":
        result = yield _branches(form, then, fresh("cps"), fresh)
        return result
    if not isinstance(form, Compound):
        return call(then, form)
    steps: list[_Step] = []
    yield _worked_out(form, steps, fresh)
    for step in reversed(steps):
        if step is not steps[-1]:
            result = function([step.name], result)
        if step.hole is None:
            assert isinstance(step.form, Compound)  # noqa: S101 - a call
            result = call(*step.form.items, result)
        else:
            result = yield _filled(step.form, step.hole, result)
    return result


def _function(form: Form, fresh: Fresh) -> Recursive[Form]:
    """Return a function that takes what is done with its value."""
    assert isinstance(form, Compound)  # noqa: S101 - its head is fn
    _, parameters, body = form.items
    assert isinstance(parameters, Compound)  # noqa: S101 - made by `function`
    name = fresh("k")
    body = yield _passed(body, name, fresh)
    return function([*parameters.items, name], body)


def _branches(form: Form, then: Form, name: Symbol, fresh: Fresh) -> Recursive[Form]:
    """Return an `if` whose branches end with a call of `then`."""
    assert isinstance(form, Compound)  # noqa: S101 - its head is if
    _, condition, *choices = form.items
    both = (*choices, Literal(None))[:2]
    parts = yield each(_passed(choice, then, fresh) for choice in both)
    chosen = function([name], call(Symbol("if"), name, *parts))
    result: Form = yield _passed(condition, chosen, fresh)
    return result


def _worked_out(form: Form, steps: list[_Step], fresh: Fresh) -> Recursive[Form]:
    """Return what stands for the value of an argument, adding steps to work it out."""
    if head_name(form) == "fn":
        made: Form = yield _function(form, fresh)
        return made
    if not isinstance(form, Compound):
        return form
    if head_name(form) == "if":
        hole = Symbol("what follows")
        chosen = fresh("ifcps")
        result = yield _branches(form, hole, chosen, fresh)
        step = _Step(fresh("cps"), result, hole)
    else:
        parts = yield each(_worked_out(part, steps, fresh) for part in form.items)
        step = _Step(fresh("cps"), call(*parts), None)
    steps.append(step)
    return step.name


def _filled(form: Form, hole: Symbol, value: Form) -> Recursive[Form]:
    if form is hole:
        return value
    if not isinstance(form, Compound):
        return form
    parts = yield each(_filled(part, hole, value) for part in form.items)
    return Compound(form.kind, parts)

"""This file keeps the functions that a program defines, with a name or without."""

from typing import Any

from .analyser import Analyser
from .desugar import describe
from .forms import Compound, Form, Literal, Symbol
from .recursion import Recursive
from .substitution import Binding
from .terms import FunctionTerm, UserFunction

__all__ = ["anonymous", "define", "nested_definition"]


def define(analyser: Analyser, form: Compound) -> Any:
    """Keep a function definition, and return the function."""
    items = form.items
    if len(items) > 2 and isinstance(items[2], Literal):
        items = (*items[:2], *items[3:])  # a documentation string
    shape = "(defn name [parameter ...] body)"
    if len(items) < 2 or not isinstance(items[1], Symbol):
        raise analyser.error(form, "defn has no name", shape)
    name = items[1].name
    names = _parameters(analyser, form, name, items[2] if len(items) > 2 else None)
    if len(items) < 4:
        raise analyser.error(form, f"the function {name} has no body", shape)
    if name in analyser.special and name != "fn":
        raise analyser.error(
            items[1], f"{name} cannot be redefined", "another name", name
        )
    function = UserFunction(name, names, Compound("list", items, form.span))
    analyser.functions.pop(name, None)
    analyser.functions[name] = function
    return FunctionTerm(name, function, form.span)


def anonymous(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the function `(fn [parameter ...] body ...)`; it sees the names around it.

    It may have a name of its own, `(fn name [parameter ...] body ...)`.
    """
    head, *rest = form.items
    name = "fn"
    if rest and isinstance(rest[0], Symbol):
        name, rest = rest[0].name, rest[1:]
    names = _parameters(analyser, form, name, rest[0] if rest else None)
    if len(rest) < 2:
        raise analyser.error(
            form, "the function fn has no body", "(fn [parameter ...] body)"
        )
    scope = dict(analyser.place.scope.snapshot())
    whole = Compound("list", (head, Symbol(name, form.span), *rest), form.span)
    function = UserFunction(name, names, whole, scope=scope)
    term = FunctionTerm(name, function, form.span)
    if name != "fn":
        scope[name] = Binding(term)
    return term
    yield  # a handler is a generator


def _parameters(
    analyser: Analyser, form: Compound, name: str, parameters: Form | None
) -> tuple[Symbol, ...]:
    """Return the parameters of a function."""
    if not isinstance(parameters, Compound) or parameters.kind != "vector":
        raise analyser.error(
            form,
            f"{name} has no parameter vector",
            "([parameter ...] body)"
            if name == "fn"
            else "(defn name [parameter ...] body)",
        )
    names = []
    for parameter in parameters.items:
        if not isinstance(parameter, Symbol):
            raise analyser.error(
                parameter,
                f"{name} has a parameter that is no name",
                "a symbol",
                describe(parameter),
            )
        if parameter.name == "&":
            raise analyser.error(
                parameter, "functions have no rest parameter", "a plain name", "&"
            )
        names.append(parameter)
    return tuple(names)


def nested_definition(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Refuse a `defn` inside another form."""
    raise analyser.error(
        form, "defn stands at the top of the program only", "let for a local name"
    )
    yield  # a handler is a generator

"""This file keeps the functions that a program defines."""

from typing import Any

from .analyser import Analyser
from .desugar import describe
from .forms import Compound, Literal, Symbol
from .recursion import Recursive
from .terms import FunctionTerm, UserFunction

__all__ = ["define", "nested_definition"]


def define(analyser: Analyser, form: Compound) -> Any:
    """Keep a function definition, and return the function."""
    items = form.items
    if len(items) > 2 and isinstance(items[2], Literal):
        items = (*items[:2], *items[3:])  # a documentation string
    shape = "(defn name [parameter ...] body)"
    if len(items) < 2 or not isinstance(items[1], Symbol):
        raise analyser.error(form, "defn has no name", shape)
    name = items[1].name
    parameters = items[2] if len(items) > 2 else None
    if not isinstance(parameters, Compound) or parameters.kind != "vector":
        raise analyser.error(form, f"{name} has no parameter vector", shape)
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
    if len(items) < 4:
        raise analyser.error(form, f"the function {name} has no body", shape)
    if name in analyser.special:
        raise analyser.error(
            items[1], f"{name} cannot be redefined", "another name", name
        )
    function = UserFunction(name, tuple(names), Compound("list", items, form.span))
    analyser.functions.pop(name, None)
    analyser.functions[name] = function
    return FunctionTerm(name, function, form.span)


def nested_definition(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Refuse a `defn` inside another form."""
    raise analyser.error(
        form, "defn stands at the top of the program only", "let for a local name"
    )
    yield  # a handler is a generator

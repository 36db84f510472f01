"""This file draws random programs and forms for property tests.

A program is drawn as nested tuples (a call or special form) and lists (a vector), with
strings as names, and written by `text`; the interpreter of the compiler's tests runs
the tuples themselves. Programs are well formed: names are bound, types agree, loops
end. Names come from a small pool, so that they hide one another often.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from daphne_bridge.compiler.forms import Compound, Form, Literal, Symbol
from daphne_bridge.language.primitives import BigInt, Keyword

__all__ = ["forms", "programs", "text"]

NAMES = ("x", "y", "z", "u", "acc0", "a1", "dontcare0")
FUNCTIONS = ("f", "g", "h")


def text(expression: Any) -> str:
    """Return the program text of an expression."""
    if isinstance(expression, list):
        return f"[{' '.join(map(text, expression))}]"
    if isinstance(expression, tuple):
        return f"({' '.join(map(text, expression))})"
    if isinstance(expression, bool):
        return "true" if expression else "false"
    return str(expression)


@dataclass
class Functions:
    """The functions of a program: name to parameter types and result type."""

    types: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)


Scope = Mapping[str, str]


@st.composite
def programs(draw: st.DrawFn, depth: int = 4) -> list[Any]:
    """Return the forms of a program: functions, then one expression."""
    functions = Functions()
    forms = []
    for name in FUNCTIONS[: draw(st.integers(0, 3))]:
        kinds = tuple(draw(st.lists(st.sampled_from(["number", "vector"]), max_size=3)))
        parameters = [draw(st.sampled_from(NAMES)) for _ in kinds]
        scope = dict(zip(parameters, kinds, strict=True))
        body = draw(numbers(scope, functions, depth - 2))
        if draw(st.booleans()):
            body = draw(lets(scope, functions, depth - 1))
        forms.append(("defn", name, parameters, body))
        functions.types[name] = (kinds, "number")
    forms.append(draw(lets({}, functions, depth)))
    return forms


@st.composite
def lets(draw: st.DrawFn, outer: Scope, functions: Functions, depth: int) -> Any:
    """Return a let whose value is a number."""
    scope = dict(outer)
    bindings: list[Any] = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(NAMES))
        kind = draw(st.sampled_from(["number", "number", "truth", "vector", "sample"]))
        if kind == "number":
            bound = draw(numbers(scope, functions, depth - 1))
        elif kind == "sample":
            kind = "number"
            bound = ("sample", draw(normals(scope, functions, depth - 2)))
        elif kind == "truth":
            bound = draw(truths(scope, functions, depth - 1))
        else:
            bound = draw(vectors(scope, functions, depth - 1))
        bindings += [name, bound]
        scope[name] = kind
    statements = [
        draw(observes(scope, functions, depth - 1))
        for _ in range(draw(st.integers(0, 2)))
    ]
    return (
        "let",
        bindings,
        *statements,
        draw(numbers(scope, functions, depth - 1)),
    )


def of_kind(scope: Scope, kind: str) -> list[str]:
    """Return the names that are bound to a kind of value."""
    return sorted(name for name, known in scope.items() if known == kind)


CONSTANTS = st.one_of(
    st.integers(-5, 5), st.sampled_from([-1.5, -0.25, 0.5, 1.0, 2.0, 3.75])
)


@st.composite
def numbers(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return an expression whose value is a number."""
    known = of_kind(scope, "number")
    if depth <= 0:
        return draw(st.sampled_from(known) if known else CONSTANTS)

    def number() -> Any:
        return draw(numbers(scope, functions, depth - 1))

    def vector() -> Any:
        return draw(vectors(scope, functions, depth - 1))

    shape = draw(st.integers(0, 15))
    match shape:
        case 0 | 1:
            return draw(st.sampled_from(known) if known else CONSTANTS)
        case 2:
            return draw(CONSTANTS)
        case 3 | 4:
            operator = draw(st.sampled_from(["+", "-", "*", "min", "max"]))
            return (operator, number(), number())
        case 5:
            return (draw(st.sampled_from(["tanh", "abs", "inc"])), number())
        case 6:
            return ("sample", draw(normals(scope, functions, depth - 1)))
        case 7:
            return ("get", vector(), draw(st.integers(0, 1)))
        case 8:
            reader = draw(st.sampled_from(["first", "second", "last", "count"]))
            return (reader, vector())
        case 9:
            test = draw(truths(scope, functions, depth - 1))
            return ("if", test, number(), number())
        case 10:
            return draw(lets(scope, functions, depth - 1))
        case 11 if functions.types:
            name = draw(st.sampled_from(sorted(functions.types)))
            kinds, _ = functions.types[name]
            return (name, *(number() if k == "number" else vector() for k in kinds))
        case 12:
            pair = [k for k in functions.types if functions.types[k][0] == PAIR]
            if pair:
                turns = draw(st.integers(0, 3))
                return ("loop", turns, number(), draw(st.sampled_from(pair)))
            return ("loop", draw(st.integers(0, 3)), number(), "+")
        case 13:
            return ("reduce", "+", number(), vector())
        case 14:
            return ("get", ("hash-map", ":k", number(), ":j", number()), ":k")
    return ("/", number(), draw(st.sampled_from([2.0, 4, -0.5])))


PAIR = ("number", "number")


@st.composite
def truths(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return an expression whose value is a Boolean."""
    known = of_kind(scope, "truth")
    if depth <= 0:
        return draw(st.sampled_from([True, False, *known]))
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.sampled_from([True, False, *known]))
        case 1:
            p = draw(numbers(scope, functions, depth - 2))
            chance = ("+", 0.5, ("*", 0.25, ("tanh", p)))
            return ("sample", ("flip", draw(st.sampled_from([0.3, chance]))))
        case 2:
            return ("not", draw(truths(scope, functions, depth - 1)))
        case 3:
            joined = [draw(truths(scope, functions, depth - 1)) for _ in range(2)]
            return (draw(st.sampled_from(["and", "or"])), *joined)
    pair = [draw(numbers(scope, functions, depth - 1)) for _ in range(2)]
    return (draw(st.sampled_from(["<", ">", "<=", "="])), *pair)


@st.composite
def vectors(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return an expression whose value is a vector of at least two numbers."""
    known = of_kind(scope, "vector")

    def number() -> Any:
        return draw(numbers(scope, functions, depth - 1))

    if known and draw(st.booleans()):
        return draw(st.sampled_from(known))
    match draw(st.integers(0, 5)) if depth > 0 else 0:
        case 1:
            name = draw(st.sampled_from(NAMES))
            source = draw(vectors(scope, functions, depth - 1))
            inner = {**scope, name: "number"}
            body = draw(numbers(inner, functions, depth - 1))
            return ("foreach", 2, [name, source], body)
        case 2:
            return ("foreach", draw(st.integers(2, 3)), [], number())
        case 3:
            return ("conj", draw(vectors(scope, functions, depth - 1)), number())
        case 4:
            source = draw(vectors(scope, functions, depth - 1))
            return ("subvec", ("conj", source, number()), 1)
    return [number() for _ in range(draw(st.integers(2, 3)))]


@st.composite
def normals(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return a normal distribution."""
    scale = draw(st.sampled_from([0.5, 1, 2.0]))
    if depth > 1 and draw(st.booleans()):
        scale = ("+", 0.5, ("abs", draw(numbers(scope, functions, depth - 1))))
    return ("normal", draw(numbers(scope, functions, depth)), scale)


@st.composite
def observes(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return an observe, perhaps under a condition or repeated."""
    shape = draw(st.integers(0, 4))
    if shape == 2:
        name = draw(st.sampled_from(NAMES))
        source = draw(vectors(scope, functions, depth - 1))
        inner = {**scope, name: "number"}
        return ("foreach", 2, [name, source], draw(site(inner, functions, depth - 1)))
    if shape > 2:
        return draw(site(scope, functions, depth))
    test = draw(truths(scope, functions, depth - 1))
    observe = draw(site(scope, functions, depth - 1))
    if shape == 1:
        return ("when", test, observe)
    return ("if", test, observe, draw(numbers(scope, functions, depth - 1)))


@st.composite
def small_lets(draw: st.DrawFn, outer: Scope) -> Any:
    """Return a let or loop of a few names and numbers that draws nothing."""
    nothing = Functions()
    scope, bindings = dict(outer), []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(NAMES))
        bound = draw(numbers(scope, nothing, 0))
        bindings += [name, ("+", bound, draw(numbers(scope, nothing, 0)))]
        scope[name] = "number"
    body = ("*", draw(numbers(scope, nothing, 0)), draw(numbers(scope, nothing, 0)))
    shape = draw(st.sampled_from(["let", "loop", "foreach"]))
    if shape == "loop":
        body = ("loop", draw(st.integers(0, 3)), body, "+")
    elif shape == "foreach":
        name = draw(st.sampled_from(NAMES))
        inner = ("+", draw(numbers({**scope, name: "number"}, nothing, 0)), name)
        source = [body, draw(CONSTANTS)]
        body = ("get", ("foreach", 2, [name, source], inner), draw(st.integers(0, 1)))
    return ("let", bindings, body)


@st.composite
def site(draw: st.DrawFn, scope: Scope, functions: Functions, depth: int) -> Any:
    """Return an observe, perhaps around a let that its link function keeps."""
    given = draw(normals(scope, functions, depth - 1))
    if draw(st.booleans()):
        given = ("normal", draw(small_lets(scope)), *given[2:])
    return (
        "observe",
        given,
        draw(st.sampled_from([-1, 0.5, 2, ("+", 1, 2)])),
    )


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers().map(BigInt),
    st.floats(allow_nan=False, allow_infinity=False),
    st.fractions().filter(lambda q: q.denominator != 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(Decimal),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from(["a", "mean", "x-1"]).map(Keyword),
).map(Literal)
SYMBOLS = st.sampled_from(["x", "+", "-", "a->b", "mat-mul", "sum!", "Math/PI"])


def _pairs(items: list[Form]) -> tuple[Form, ...]:
    keys = {str(key): (key, value) for key, value in pairwise(items)}
    return tuple(x for pair in keys.values() for x in pair)


def forms() -> st.SearchStrategy[Form]:
    """Return any form."""
    leaves = st.one_of(LITERALS, SYMBOLS.map(Symbol))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda x: Compound("list", tuple(x))),
            st.lists(inner, max_size=4).map(lambda x: Compound("vector", tuple(x))),
            st.lists(inner, max_size=4).map(lambda x: Compound("map", _pairs(x))),
        ),
        max_leaves=20,
    )

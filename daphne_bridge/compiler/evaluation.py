"""This file evaluates forms: constants, names, collections, calls and branches.

Everything is evaluated once, in the order in which Clojure would do it.
"""

from math import isfinite
from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.nearest import or_nearest
from ..language.primitives import (
    HOST_CONSTANTS,
    PRIMITIVES,
    HashMap,
    Keyword,
    PrimitiveError,
    truthy,
)
from .analyser import Analyser
from .collection_terms import hash_map, sequence
from .description import described, shown
from .desugar import describe
from .distributions import check_parameters, is_distribution
from .forms import Compound, Form, Literal, Symbol, at
from .late_names import refuse_late_names
from .partial_evaluation import forced, partial_evaluation
from .recursion import Recursive
from .symbolic_simplify import elements
from .terms import (
    UNKNOWN,
    CallTerm,
    FunctionTerm,
    MapTerm,
    SequenceTerm,
    UserFunction,
    is_constant,
    settled,
    size,
)
from .written_constants import written

__all__ = [
    "branches",
    "call_function",
    "decided",
    "evaluate",
    "evaluate_all",
    "evaluate_atom",
    "evaluate_body",
    "function_named",
    "map_of",
]


def evaluate(analyser: Analyser, form: Form) -> Recursive[Any]:
    """Return the value of any form."""
    analyser.count_steps(form)
    if not isinstance(form, Compound):
        return evaluate_atom(analyser, form)
    if form.kind == "vector":
        return sequence((yield from evaluate_all(analyser, form.items)))
    if form.kind == "map":
        keys = yield from evaluate_all(analyser, form.items[::2])
        values = yield from evaluate_all(analyser, form.items[1::2])
        return map_of(analyser, form, list(zip(keys, values, strict=True)))
    if not form.items:
        raise analyser.error(
            form, "the empty list calls nothing", "(function argument ...)", "()"
        )
    head = form.items[0]
    if isinstance(head, Symbol):
        name = head.name
        is_bound = analyser.place.scope.look_up(name) is not None
        if not is_bound and name not in analyser.functions:
            handler = analyser.special.get(name)
            if handler is not None:
                return (yield from handler(analyser, form))
        elif name in ("sample", "observe"):
            raise analyser.error(
                head,
                f"{name} is bound to a value here",
                f"another name than {name}",
            )
    elif isinstance(head, Literal) and not isinstance(head.value, Keyword):
        raise analyser.error(head, "this is no function", "a function", describe(head))
    return (yield from _application(analyser, form))


def map_of(analyser: Analyser, form: Form, pairs: list[tuple[Any, Any]]) -> Any:
    """Return the map of evaluated `pairs` that `form` writes."""
    try:
        return hash_map(pairs)
    except PrimitiveError as problem:
        raise analyser.error(form, str(problem), "small keys") from None


def evaluate_all(
    analyser: Analyser, forms: tuple[Form, ...]
) -> Recursive[tuple[Any, ...]]:
    """Return the values of several forms, in order."""
    results = []
    for form in forms:
        if isinstance(form, Compound):
            results.append((yield evaluate(analyser, form)))
        else:
            results.append(evaluate_atom(analyser, form))
    return tuple(results)


def evaluate_atom(analyser: Analyser, form: Literal | Symbol) -> Any:
    """Return the value of a literal or of a name."""
    if isinstance(form, Literal):
        return form.value
    name = form.name
    binding = analyser.place.scope.look_up(name)
    if binding is not None:
        return binding.value
    function = analyser.function(name)
    if function is not None:
        return FunctionTerm(name, function, form.span)
    if name in HOST_CONSTANTS:
        return HOST_CONSTANTS[name]
    if name in PRIMITIVES or name in DISTRIBUTIONS or name in analyser.higher_order:
        return FunctionTerm(name, None, form.span)
    if name in analyser.special:
        raise analyser.error(
            form, f"{name} stands only first in a list", f"({name} ...)", name
        )
    raise analyser.error(
        form,
        f"the name {name} is not defined",
        or_nearest(
            "a name bound by let, foreach, defn or the data (--data)",
            name,
            analyser.known_names(),
        ),
        name,
    )


def evaluate_body(analyser: Analyser, forms: tuple[Form, ...]) -> Recursive[Any]:
    """Return the value of the last of several forms, nil if there is none."""
    results = yield from evaluate_all(analyser, forms)
    return results[-1] if results else None


def _application(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return the value of a function call."""
    head, *arguments = form.items
    if isinstance(head, Symbol):
        function = function_named(analyser, head)
    elif isinstance(head, Literal):
        function = head.value
    else:
        function = yield evaluate(analyser, head)
    values = yield from evaluate_all(analyser, tuple(arguments))
    is_core = isinstance(function, FunctionTerm) and function.function is None
    if is_core and not analyser.place.is_simplified:
        if not values:
            raise analyser.error(
                form,
                f"{function.name} is called without arguments",
                "arguments, or a constant such as [] or 0",
            )
        values = tuple(written(v, analyser.written) for v in values)
    if is_core:
        refuse_late_names(analyser, function.name, form, values)
    return (yield from call_function(analyser, function, values, form))


def function_named(analyser: Analyser, head: Symbol) -> Any:
    """Return the function that a call's head names."""
    name = head.name
    is_known = (
        analyser.place.scope.look_up(name) is not None
        or name in PRIMITIVES
        or name in DISTRIBUTIONS
        or name in analyser.higher_order
        or analyser.function(name) is not None
    )
    if is_known:
        return evaluate_atom(analyser, head)
    raise analyser.error(
        head,
        f"there is no function or distribution {name}",
        or_nearest(
            "one of the language or of the program", name, analyser.known_names()
        ),
        name,
    )


def call_function(
    analyser: Analyser, function: Any, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return the value of `function` applied to values."""
    if not isinstance(function, FunctionTerm):
        return _look_up(analyser, function, values, form)
    if function.function is not None:
        return (yield from _inlined(analyser, function.function, values, form))
    if function.name in analyser.higher_order:
        return (yield from analyser.higher_order[function.name](analyser, values, form))
    if weight := _weight(function.name, values):
        analyser.count_steps(form, weight)
    try:
        if function.name in DISTRIBUTIONS:
            check_parameters(function.name, values)
            return CallTerm(function.name, values)
        result = partial_evaluation(function.name, values)
    except PrimitiveError as problem:
        raise _no_value(analyser, form, function.name, values, problem) from None
    if isinstance(result, float) and not isfinite(result):
        analyser.not_finite = form.span
    return result


def _no_value(
    analyser: Analyser,
    form: Form,
    name: str,
    values: tuple[Any, ...],
    problem: PrimitiveError,
) -> Exception:
    """Return the error for a call that has no value."""
    arguments = " ".join(shown(x) for x in values[:6])
    more = " ..." if len(values) > 6 else ""
    called = f"({name} {arguments}{more})" if values else f"({name})"
    return analyser.error(form, str(problem), f"a call of {name} with a value", called)


def _look_up(
    analyser: Analyser, function: Any, values: tuple[Any, ...], form: Compound
) -> Any:
    """Return the value of a keyword, map or vector used as a function."""
    try:
        if isinstance(function, Keyword) and 1 <= len(values) <= 2:
            return partial_evaluation("get", (values[0], function, *values[1:]))
        if isinstance(function, (HashMap, MapTerm)) and 1 <= len(values) <= 2:
            return partial_evaluation("get", (function, *values))
        if elements(function) is not None and len(values) == 1:
            return partial_evaluation("nth", (function, *values))
    except PrimitiveError as problem:
        raise _no_value(analyser, form, "get", values, problem) from None
    head = form.items[0]
    if isinstance(head, Symbol) and (hidden := _hidden(analyser, head.name)):
        raise analyser.error(
            head,
            f"{head.name} is bound to a value here, which hides {hidden}",
            f"another name than {head.name} for the value",
            described(function),
        )
    raise analyser.error(head, "this is no function", "a function", described(function))


def _hidden(analyser: Analyser, name: str) -> str:
    """Return what of the language a bound name hides, in words; "" if nothing."""
    if analyser.place.scope.look_up(name) is None:
        return ""
    if name in DISTRIBUTIONS:
        return f"the distribution {name}"
    if name in PRIMITIVES or name in analyser.higher_order:
        return f"the function {name}"
    return ""


def _inlined(
    analyser: Analyser, function: UserFunction, values: tuple[Any, ...], form: Compound
) -> Recursive[Any]:
    """Return the value of a function's body with its parameters bound."""
    if len(values) != len(function.parameters):
        raise analyser.error(
            form,
            f"{function.name} is called with the wrong number of arguments",
            str(len(function.parameters)),
            str(len(values)),
        )
    outer = analyser.place
    if outer.depth >= analyser.limits.depth:
        raise analyser.error(
            form,
            f"the calls of {function.name} do not end at compile time",
            f"at most {analyser.limits.depth} calls inside one another",
            "more",
        )
    analyser.place = inner = analyser.fresh_place()
    inner.guard, inner.guards = outer.guard, outer.guards
    inner.depth, inner.is_simplified = outer.depth + 1, True
    bodies = function.bodies
    if function.is_prelude:
        inner.is_prelude = True
        bodies = tuple(at(body, form.span) for body in bodies)
    for name, binding in function.scope.items():
        inner.scope.enter(name, binding)
    for parameter, value in zip(function.parameters, values, strict=True):
        analyser.bind(parameter.name, value)
    if len(bodies) == 1:
        result = yield evaluate(analyser, bodies[0])
    else:
        result = yield from evaluate_body(analyser, bodies)
    analyser.place = outer
    return forced(result) if values and is_constant(values[-1]) else result


def branches(
    analyser: Analyser, condition: Any, then: Form, otherwise: Form, form: Form
) -> Recursive[Any]:
    """Return `then` or `otherwise` by a constant condition, else a call to `if`."""
    constant = decided(condition)
    if constant is not UNKNOWN:
        return (yield evaluate(analyser, then if truthy(constant) else otherwise))
    if is_distribution(condition):
        raise analyser.error(
            form, "a distribution is no condition", "a value", "a distribution"
        )
    place = analyser.place
    if place.guards >= analyser.limits.guards:
        raise analyser.error(
            form,
            "a random condition decides how deep the program goes",
            f"at most {analyser.limits.guards} random conditions inside one another",
            "more",
        )
    guard = place.guard
    place.guards += 1
    place.guard = CallTerm("and", (guard, condition))
    yes = yield evaluate(analyser, then)
    place.guard = CallTerm("and", (guard, CallTerm("not", (condition,))))
    no = yield evaluate(analyser, otherwise)
    place.guard = guard
    place.guards -= 1
    return CallTerm("if", (condition, yes, no))


def _weight(name: str, values: tuple[Any, ...]) -> int:
    """Return for how many forms a call counts beside its own: its elements, roughly."""
    weight = 0
    for value in values:
        if isinstance(value, SequenceTerm):
            weight += len(value.items)
        elif isinstance(value, tuple):
            weight += min(size(value), 1 << 21) if name in _DEEP else len(value)
    return weight // _ELEMENTS_PER_STEP


_ELEMENTS_PER_STEP = 32


_DEEP = frozenset({"=", "not=", "flatten", "str", "sort", "distinct", "frequencies"})


def decided(condition: Any) -> Any:
    """Return the constant that decides a condition, or UNKNOWN."""
    if isinstance(condition, (SequenceTerm, MapTerm, FunctionTerm)):
        return True
    if isinstance(condition, CallTerm) and isinstance(condition.elements, tuple):
        is_nil = condition.head in ("next", "seq", "not-empty")
        return bool(condition.elements) if is_nil else True
    return settled(condition)

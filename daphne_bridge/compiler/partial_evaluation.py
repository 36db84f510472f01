"""This file computes calls of the language's functions as far as Daphne does.

The three stages of `primitives` decide: a core function is computed when its arguments
are known, a host function only inside a core call (its value is remembered), a runtime
function never. What is left goes to `symbolic_simplify`.

The passes are one: where Daphne rewrites the program until nothing changes, every call
is computed once, from its computed arguments. The result is the same because each rule
needs only the arguments' values, and those no longer change.
"""

from typing import Any

from ..language.primitives import PRIMITIVES, PrimitiveError, is_number
from .distributions import is_distribution
from .drawn_shapes import NUMERIC
from .symbolic_simplify import symbolic_simplify
from .terms import (
    UNKNOWN,
    CallTerm,
    FunctionTerm,
    MapTerm,
    SequenceTerm,
    is_constant,
    known,
    settled,
)

__all__ = ["forced", "partial_evaluation"]

_SIMPLIFIED_ONLY = frozenset({"put", "append"})
"""Daphne's own functions: it simplifies calls of them, and computes none."""


def partial_evaluation(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return the value of a call of the primitive `name`: a constant or a term.

    Raises:
        PrimitiveError: Wrong number of arguments, or the call has no value.
    """
    primitive = PRIMITIVES[name]
    _check_count(name, len(arguments))
    values = tuple(map(known, arguments))
    if any(x is UNKNOWN for x in values):
        _check_kinds(name, arguments)
        if primitive.folds:
            return _settle(name, symbolic_simplify(name, arguments), arguments)
        return CallTerm(primitive.name, arguments)
    if primitive.folds:
        if name in _SIMPLIFIED_ONLY and not all(map(is_constant, arguments)):
            return symbolic_simplify(name, arguments)
        return primitive.apply(*values)
    if primitive.visible:
        return CallTerm(primitive.name, arguments, known=primitive.apply(*values))
    _check_kinds(name, arguments)
    return CallTerm(primitive.name, arguments)


def _settle(name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
    """Return `result`; a call that remains remembers its value if that is certain."""
    if not isinstance(result, CallTerm) or result.settled is not UNKNOWN:
        return result
    values = tuple(map(settled, arguments))
    if any(x is UNKNOWN for x in values):
        return result
    value = PRIMITIVES[name].apply(*values)
    items = value if isinstance(value, tuple) else result.elements
    return CallTerm(result.head, result.arguments, elements=items, settled=value)


def forced(value: Any) -> Any:
    """Return the constant that `value` is known to be, or `value`."""
    if is_constant(value):
        return value
    constant = known(value)
    return value if constant is UNKNOWN else constant


def _check_count(name: str, count: int) -> None:
    primitive = PRIMITIVES[name]
    low, high = primitive.min_args, primitive.max_args
    if count >= low and (high is None or count <= high):
        return
    if high is None:
        wanted = f"at least {low}"
    else:
        wanted = str(low) if low == high else f"{low} to {high}"
    raise PrimitiveError(f"{name} takes {wanted} arguments, not {count}")


def _check_kinds(name: str, arguments: tuple[Any, ...]) -> None:
    for argument in arguments:
        if isinstance(argument, FunctionTerm):
            raise PrimitiveError(
                f"{name} takes values, not the function {argument.name}"
            )
        if name not in NUMERIC and not name.startswith("Math/"):
            continue
        if is_constant(argument):
            if not is_number(argument):
                hint = "; = compares any values" if name == "==" else ""
                raise PrimitiveError(
                    f"{name} takes numbers, not {_named(argument)}{hint}"
                )
        elif isinstance(argument, (SequenceTerm, MapTerm)):
            raise PrimitiveError(f"{name} takes numbers, not a collection")
        elif is_distribution(argument):
            raise PrimitiveError(
                f"{name} takes numbers, not a distribution; (sample ...) draws from it"
            )


def _named(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return repr(str(value)[:40])
    return f"a {'vector' if isinstance(value, tuple) else type(value).__name__}"

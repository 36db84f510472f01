"""This file finds what is known of an expression before any node has a value."""

from .expression import (
    Call,
    Constant,
    EvaluationError,
    Expression,
    Value,
    evaluate,
    free_names,
)

__all__ = ["constant_of", "is_number", "length_of"]


def is_number(value: Value) -> bool:
    """Return whether a value is a number of the language."""
    return (
        isinstance(value, int | float) or hasattr(value, "numerator")
    ) and not isinstance(value, bool)


def constant_of(expression: Expression) -> Value:
    """Return a number that is known beforehand, else None."""
    if free_names(expression):
        return None
    try:
        value = evaluate(expression, {})
    except EvaluationError:
        return None
    return value if is_number(value) else None


def length_of(expression: Expression) -> int | None:
    """Return the length of a vector whose length is known beforehand, else None."""
    if isinstance(expression, Call) and expression.head == "vector":
        return len(expression.arguments)
    if isinstance(expression, Constant) and isinstance(expression.value, tuple):
        return len(expression.value)
    return None

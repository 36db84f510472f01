"""This file says compile-time values in a few words, for messages."""

from typing import Any

from ..language.primitives import HashMap, Keyword, Seq, format_double
from .distributions import is_distribution
from .terms import CallTerm, FunctionTerm, MapTerm, NodeTerm, SequenceTerm

__all__ = ["described", "shown"]


def shown(value: Any) -> str:
    """Return a short text of a value, for messages."""
    match value:
        case NodeTerm():
            return value.name
        case CallTerm():
            return f"({value.head} ...)"
        case FunctionTerm():
            return value.name
        case SequenceTerm() | tuple():
            return "[...]" if not isinstance(value, tuple) or value else "[]"
        case MapTerm() | HashMap():
            return "{...}"
        case Keyword():
            return f":{str.__str__(value)}"
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value[:40])
        case float():
            return format_double(value)
    return str(value)[:40]


def described(value: Any) -> str:
    """Return a few words that say what a value is."""
    match value:
        case NodeTerm():
            return f"the random variable {value.name}"
        case CallTerm():
            kind = "the distribution" if is_distribution(value) else "a value of"
            return f"{kind} ({value.head} ...)"
        case FunctionTerm():
            return f"the function {value.name}"
        case MapTerm() | HashMap():
            return "a map"
        case SequenceTerm() | tuple():
            return "a sequence" if isinstance(value, Seq) else "a vector"
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
    return f"the constant {str(value)[:40]}"

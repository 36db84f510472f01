"""This file says what a program means: random variables and a result."""

from dataclasses import dataclass
from typing import Any

from .forms import Span
from .terms import UserFunction

__all__ = ["Analysis", "Limits", "Variable"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a program may be unrolled before it is refused.

    Attributes:
        steps: Forms that are evaluated, counting every repetition.
        depth: Calls of functions inside one another.
        guards: Random conditions inside one another.
        size: Numbers, names and brackets written in the document.
    """

    steps: int = 5_000_000
    depth: int = 30_000
    guards: int = 500
    size: int = 20_000_000


@dataclass(slots=True)
class Variable:
    """A random variable.

    Attributes:
        name: Its name in the document.
        label: The name that the program binds it to; empty if it binds none.
        distribution: What it is drawn from.
        span: Where its site stands.
        guard: Where it counts: True or a term.
        is_observed: Whether it has a value.
        observation: That value.
        site: The name that its site gives; empty if it gives none.
        kept: The distribution and the observation of an observe as the document writes
            them, where that is not by their values (`kept_lets`).
    """

    name: str
    label: str
    distribution: Any
    span: Span
    guard: Any = True
    is_observed: bool = False
    observation: Any = None
    site: str = ""
    kept: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a program means.

    Attributes:
        functions: The program's functions, in order of definition.
        variables: Its random variables, in order of evaluation.
        result: The value of its last form.
        span: Where the last form stands.
        count: How many numbers were drawn for names.
        not_finite: Where a constant became infinite or no number, if one did.
        has_functions: Whether the document lists the functions (see `document`).
    """

    functions: tuple[UserFunction, ...]
    variables: tuple[Variable, ...]
    result: Any
    span: Span
    count: int
    not_finite: Span | None
    has_functions: bool

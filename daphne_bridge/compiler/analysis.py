"""This file turns forms into random variables and the calls that join them.

The analysis walks a form once, in the order in which Clojure would evaluate it, and
carries what Daphne's rules carry: the functions (rho), the guard, that is the condition
under which the place is reached (phi), and the random variables met so far.

    sample d     a new latent with the distribution d, whatever the guard
    observe d y  a new observed variable; it counts only where the guard holds
    (if c t e)   a constant c picks one branch; a random c keeps both, under the guards
                 (and guard c) and (and guard (not c))
    (f a ...)    the body of f with its parameters bound to the values of a ...

A value is computed once and shared, so a name bound to a sample is one variable however
often it is used. Names follow Daphne: the site's name or `sample`, `observe`, and a
number from one counter.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 3.1, https://arxiv.org/abs/1809.10756
"""

from collections.abc import Mapping
from typing import Any

from ..language.primitives import HashMap, Keyword
from .analyser import Analyser, Handler
from .binding_forms import foreach, let, loop
from .definitions import anonymous, define, nested_definition
from .derived_forms import (
    case,
    cond,
    conditional,
    do,
    quote,
    thread,
    unsupported,
    when,
)
from .evaluation import evaluate
from .forms import Compound, Form, Literal, Span, Symbol, head_name
from .higher_order import HIGHER_ORDER
from .meaning import Analysis, Limits
from .random_forms import observe, sample
from .recursion import run
from .source import Source
from .terms import UserFunction

__all__ = ["analyse"]


def analyse(
    forms: tuple[Form, ...],
    source: Source,
    data: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Analysis:
    """Return what the program `forms` means.

    Args:
        forms: The program.
        source: Its text, for messages.
        data: Values of names that the program uses freely.
        limits: How far it may be unrolled.

    Raises:
        CompileError: The program does not describe a graphical model.
    """
    if not forms:
        raise source.compile_error(
            Span(1, 1), "the program is empty", "at least one form", "no form"
        )
    analyser = Analyser(
        source,
        data or {},
        limits or Limits(),
        _reserved(forms),
        _SPECIAL,
        HIGHER_ORDER,
    )
    result: Any = None
    for form in forms:
        if head_name(form) == "defn" and isinstance(form, Compound):
            result = define(analyser, form)
            analyser.forget()
        else:
            analyser.forget()
            result = run(evaluate(analyser, form))
    analyser.check_size(result, forms[-1].span)
    return Analysis(
        tuple(analyser.functions.values()),
        tuple(analyser.variables),
        result,
        forms[-1].span,
        analyser.count,
        analyser.not_finite,
        not _loses_functions(forms[-1], analyser.functions, result),
    )


def _reserved(forms: tuple[Form, ...]) -> frozenset[str]:
    """Return the names that no random variable may have in the document."""
    names: set[str] = set()
    work = list(forms)
    while work:
        match work.pop():
            case Symbol(name=name):
                names.add(name)
            case Literal(value=Keyword() as value):
                names.add(str.__str__(value))
            case Compound(items=items):
                work.extend(items)
    return frozenset(names)


def _loses_functions(
    form: Form, functions: Mapping[str, UserFunction], result: Any
) -> bool:
    """Return whether Daphne writes no functions after this last form.

    It carries them from part to part of a form, and loses them where there is none.
    """
    is_let = head_name(form) == "let"
    while head_name(form) == "let" and isinstance(form, Compound):
        form = form.items[-1]
    if is_let and isinstance(result, (tuple, HashMap)) and not result:
        return True
    if not isinstance(form, Compound):
        return False
    if form.kind != "list":
        return not form.items
    return len(form.items) == 1 and head_name(form) in functions


_SPECIAL: Mapping[str, Handler] = {
    "let": let,
    "if": conditional,
    "sample": sample,
    "observe": observe,
    "loop": loop,
    "foreach": foreach,
    "defn": nested_definition,
    "do": do,
    "when": when,
    "when-not": when,
    "if-not": conditional,
    "cond": cond,
    "case": case,
    "->": thread,
    "->>": thread,
    "quote": quote,
    "fn": anonymous,
    "def": unsupported,
    "recur": unsupported,
    "for": unsupported,
    "doseq": unsupported,
    "letfn": unsupported,
}

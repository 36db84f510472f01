"""This file finds functions that a program calls and that its data hide.

A column called `count` binds the name, so that `(count y)` looks y up in the column, as
a program may want. Where compiling fails it is more likely that the function was meant.
"""

from collections.abc import Collection, Iterator, Sequence

from ..errors import Problem
from ..language.families import DISTRIBUTIONS
from ..language.primitives import PRIMITIVES
from .forms import Compound, Form, Symbol, head_name
from .prelude import prelude
from .source import Source

__all__ = ["hidden_functions"]


def hidden_functions(
    forms: Sequence[Form], bound: Collection[str], source: Source
) -> list[Problem]:
    """Return a problem for the first call of each function that data hide.

    Args:
        forms: Of the program.
        bound: Names of the data.
        source: Where the forms stand.
    """
    hidden = {*PRIMITIVES, *DISTRIBUTIONS, *prelude()}.intersection(bound)
    found: dict[str, Problem] = {}
    for head in _heads(forms):
        if head.name in hidden and head.name not in found:
            found[head.name] = Problem(
                source.where(head.span),
                f"the data bind {head.name}, which hides the function of this name",
                f"another name than {head.name} in the data, or in the program",
            )
    return list(found.values())


def _heads(forms: Sequence[Form]) -> Iterator[Symbol]:
    """Yield the names that lists start with, in the order of the text."""
    work = list(reversed(forms))
    while work:
        form = work.pop()
        if isinstance(form, Compound):
            if head_name(form) is not None and isinstance(form.items[0], Symbol):
                yield form.items[0]
            work.extend(reversed(form.items))

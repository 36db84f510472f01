"""This file finds functions that a program calls and that its data hide.

A column called `count` binds the name, so that `(count y)` looks y up in the column, as
a program may want. Where compiling fails it is more likely that the function was meant.
"""

from collections.abc import Collection, Iterator, Sequence

from ..errors import Problem
from ..language.families import DISTRIBUTIONS
from ..language.primitives import PRIMITIVES
from .forms import Compound, Form, head_name
from .prelude import prelude
from .source import Source

__all__ = ["hidden_functions"]


def hidden_functions(
    forms: Sequence[Form],
    bound: Collection[str],
    source: Source,
    problems: Sequence[Problem],
) -> list[Problem]:
    """Return a problem for each function that data hide from a form that is wrong.

    Args:
        forms: Of the program.
        bound: Names of the data.
        source: Where the forms stand.
        problems: Of forms that are wrong.
    """
    hidden = {*PRIMITIVES, *DISTRIBUTIONS, *prelude()}.intersection(bound)
    places = {problem.where for problem in problems}
    wrong = [form for form in _compounds(forms) if source.where(form.span) in places]
    found: dict[str, Problem] = {}
    for form in _compounds(wrong):
        name = head_name(form)
        if name in hidden and name is not None:
            place = source.where(form.items[0].span)
            found.setdefault(
                name,
                Problem(
                    place,
                    f"the data bind {name}, which hides the function of this name",
                    f"another name than {name} in the data, or in the program",
                ),
            )
    return list(found.values())


def _compounds(forms: Sequence[Form]) -> Iterator[Compound]:
    """Yield lists, vectors and maps, with those in them, in the order of the text."""
    work = list(reversed(forms))
    while work:
        form = work.pop()
        if isinstance(form, Compound):
            yield form
            work.extend(reversed(form.items))

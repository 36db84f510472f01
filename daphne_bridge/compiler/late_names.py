"""This file refuses the two calls of random names that Daphne cannot compile."""

from typing import Any

from ..language.primitives import PRIMITIVES
from .analyser import Analyser
from .drawn_shapes import NUMERIC
from .forms import Compound, Symbol
from .terms import is_constant

__all__ = ["refuse_late_names"]


def refuse_late_names(
    analyser: Analyser, name: str, form: Compound, values: tuple[Any, ...]
) -> None:
    """Refuse the two calls of random names that Daphne cannot compile.

    Daphne reads a name of the core library that the program has bound to a random
    value as the library's function, and cannot join a written-out vector to a
    random one that a name stands for.
    """
    if name not in PRIMITIVES or not PRIMITIVES[name].folds or name in NUMERIC:
        return
    late = [
        symbol
        for symbol in form.items[1:]
        if isinstance(symbol, Symbol)
        and (binding := analyser.place.scope.look_up(symbol.name)) is not None
        and binding.is_late
    ]
    if not late:
        return
    clashes = [s for s in late if s.name in PRIMITIVES and PRIMITIVES[s.name].folds]
    others = sum(not is_constant(v) for v in values) - len(late)
    if clashes and len(clashes) == len(late) and not others:
        clash = clashes[0]
        raise analyser.error(
            clash,
            f"{clash.name} is bound to a random value but is also a function of "
            "the language",
            "another name for the value",
            clash.name,
        )
    first = form.items[1]
    is_written = is_constant(values[0]) or (
        isinstance(first, Compound) and first.kind == "vector"
    )
    if name == "concat" and is_written and late[0] is not first:
        raise analyser.error(
            late[0],
            "concat cannot join a written-out vector to a random one by its name",
            "names for all vectors, or all of them written out",
            late[0].name,
        )

"""This file has the functions that every program may call without defining them.

They are written in the language itself, in `prelude.daphne`. A program that defines a
function of the same name, or binds the name, calls its own.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from .forms import Compound, Symbol
from .reader import read
from .terms import UserFunction

__all__ = ["prelude"]

_FILE = "prelude.daphne"


@cache
def prelude() -> Mapping[str, UserFunction]:
    """Return the functions of the prelude by name."""
    functions = {}
    for form in read(files(__package__).joinpath(_FILE).read_text("utf-8"), _FILE):
        match form:
            case Compound(items=(_, Symbol(name=name), Compound(items=parameters), *_)):
                names = tuple(p for p in parameters if isinstance(p, Symbol))
                functions[name] = UserFunction(name, names, form, is_prelude=True)
    return functions

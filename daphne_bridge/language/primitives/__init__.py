"""This file lists the deterministic functions of the language and what they compute.

Meanings are Clojure's on plain Python values: integers stay integers and overflow at
64 bits, `(/ 6 4)` is the ratio 3/2, `1` and `1.0` are not `=` but are `==`, `true` is
no number. Values are int, BigInt, float, Fraction, Decimal, bool, None (nil), str,
Keyword, tuple (vector), Seq (every other sequence) and HashMap.

Three kinds of function differ in when a compiler may compute them, as in Daphne:

- core functions (`folds`): as soon as every argument is a constant;
- host functions (`visible` only: `Math/floor`, `mat-mul`, ...): inside a core call;
- runtime functions (neither: `sqrt`, `exp`, `tanh`, ...): never at compile time.

References:
    Hickey, "The Clojure programming language" (2008), https://clojure.org/api/cheatsheet
    Tolpin, van de Meent, Yang, Wood, "Design and implementation of probabilistic
    programming language Anglican" (2016), https://arxiv.org/abs/1608.05263 (runtime).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .lookups import LOOKUPS
from .matrices import MATRICES
from .numbers import NUMBERS
from .predicates import PREDICATES
from .runtime_functions import RUNTIME
from .sequences import SEQUENCES
from .texts import TEXTS
from .values import (
    MAX_COLLECTION,
    BigInt,
    HashMap,
    Keyword,
    PrimitiveError,
    Seq,
    Value,
    equal,
    format_double,
    is_number,
    truthy,
    word_of,
)

__all__ = [
    "HOST_CONSTANTS",
    "MAX_COLLECTION",
    "PRIMITIVES",
    "BigInt",
    "HashMap",
    "Keyword",
    "Primitive",
    "PrimitiveError",
    "Seq",
    "Value",
    "equal",
    "format_double",
    "is_number",
    "truthy",
    "word_of",
]


@dataclass(frozen=True, slots=True)
class Primitive:
    """A deterministic function of the language.

    Attributes:
        name: Its name in documents (`Math/floor` is written `floor`).
        min_args: Fewest arguments.
        max_args: Most arguments; None if there is no limit.
        apply: Its meaning on plain values; raises `PrimitiveError`.
        folds: Whether a call with constant arguments is replaced by its value.
        visible: Whether a folding call around it may compute it.
    """

    name: str
    min_args: int
    max_args: int | None
    apply: Callable[..., Value]
    folds: bool
    visible: bool


_CORE = NUMBERS | PREDICATES | LOOKUPS | SEQUENCES | TEXTS

_HOST = (
    "floor ceil sqrt cbrt exp log log10 pow sin cos tan asin acos atan atan2 sinh cosh "
    "tanh hypot rint round signum abs max min"
)

HOST_CONSTANTS: Mapping[str, float] = MappingProxyType(
    {"PI": math.pi, "Math/PI": math.pi, "Math/E": math.e}
)
"""Names that stand for a number."""


def _table() -> Mapping[str, Primitive]:
    table = {
        name: Primitive(name, *row, folds=folds, visible=visible)
        for rows, folds, visible in (
            (RUNTIME, False, False),
            (MATRICES, False, True),
            (_CORE, True, True),
        )
        for name, row in rows.items()
    }
    for name in _HOST.split():
        low, high, meaning = (RUNTIME | _CORE)[name]
        table[f"Math/{name}"] = Primitive(
            name, low, high, meaning, folds=False, visible=True
        )
    return MappingProxyType(table)


PRIMITIVES: Mapping[str, Primitive] = _table()
"""The functions by the name a program uses; `Math/` names are written without it."""

"""This file gives every primitive of the language its meaning on unknown numbers.

The names are those of `daphne_bridge.primitives`. Arguments are values in the sense of
`values.py`. Where all of them are known the bridge's own function is applied; where a
collection's structure is enough (`conj`, `subvec`, ...) too, with unknown numbers as
opaque elements. Arithmetic, comparison, logic, access at an unknown index and matrix
products become operations of the DAG. What would need a structure that is decided only
when the model runs (a `range` of random length) has no value, and says why.

Numbers are floats when the model runs: integers are exact up to 2^53 in float64, and
ratios are rounded.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..dag import Dag
from .applying import Primitives, Rule, truth
from .lookups import LOOKUPS
from .matrices import MATRICES
from .numbers import NUMBERS
from .predicates import PREDICATES
from .runtime_functions import RUNTIME
from .sequences import SEQUENCES

__all__ = ["NEEDS_KNOWN", "RULES", "Primitives", "primitives_on", "truth"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {**NUMBERS, **PREDICATES, **LOOKUPS, **SEQUENCES, **MATRICES, **RUNTIME}
)
"""Meaning on unknown numbers by name; see `NEEDS_KNOWN` for what has none."""

NEEDS_KNOWN = frozenset({"frequencies", "str", "subs"})
"""Primitives whose value has a structure that unknown numbers decide."""


def primitives_on(dag: Dag) -> Primitives:
    """Return the primitives whose operations go to a DAG."""
    return Primitives(dag, RULES)

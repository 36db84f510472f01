"""This file says what a compile-time value is.

A value is a constant (a plain value of `primitives`) or a term, which holds at least
one part that is not known before the program runs:

- `NodeTerm`, a random variable;
- `CallTerm`, a call that remains in the link functions, distributions included;
- `SequenceTerm` and `MapTerm`, collections of known shape with such parts;
- `FunctionTerm`, a function, which can be called and passed on but not stored;
- `LetTerm` and `LocalTerm`, a let that stays in an observe and a name that it binds.

Terms share their parts: they are a directed acyclic graph, written out only in the
document. `size` counts what would be written.
"""

from collections.abc import Mapping
from typing import Any, Final

from ..language.families import DISTRIBUTIONS
from ..language.primitives import HashMap, Seq
from .constant_size import constant_size
from .forms import Compound, Span, Symbol

__all__ = [
    "UNKNOWN",
    "CallTerm",
    "FunctionTerm",
    "LetTerm",
    "LocalTerm",
    "MapTerm",
    "NodeTerm",
    "SequenceTerm",
    "Term",
    "UserFunction",
    "is_constant",
    "known",
    "parts_of",
    "settled",
    "size",
]


class _Unknown:
    """The single value `UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""Says that a value is not known at compile time."""


class Term:
    """A compile-time value that is not a constant."""

    __slots__ = ("size",)
    size: int


class NodeTerm(Term):
    """A random variable, by its name in the document.

    Attributes:
        name: That name.
        shape: Sizes of the collection that it certainly is, () of no collection;
            None where that is not known.
    """

    __slots__ = ("name", "shape")

    def __init__(self, name: str, *, shape: tuple[int, ...] | None = None) -> None:
        self.name = name
        self.shape = shape
        self.size = 1


class CallTerm(Term):
    """A call that is not computed.

    Attributes:
        head: Name of a primitive or family, or `if`.
        arguments: Its arguments.
        known: Its value if a core function may use it; Daphne writes the call.
        elements: The sequence it stands for, if that is known (`list`, `cons`).
        settled: Its value if that is certain; it decides conditions and counts, but
            the document keeps the call, as Daphne's does.
        is_distribution: Whether it is a distribution or selects one.
    """

    __slots__ = (
        "arguments",
        "elements",
        "head",
        "is_distribution",
        "known",
        "settled",
    )

    def __init__(
        self,
        head: str,
        arguments: tuple[Any, ...],
        known: Any = UNKNOWN,
        elements: Any = UNKNOWN,
        settled: Any = UNKNOWN,
    ) -> None:
        self.head = head
        self.arguments = arguments
        self.known = known
        self.settled = known if settled is UNKNOWN else settled
        self.elements = elements
        self.size = 2 + sum(map(size, arguments))
        self.is_distribution = head in DISTRIBUTIONS or _selects(head, arguments)


def _selects(head: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether a call picks one of several distributions."""
    if head == "if":
        choices = arguments[1:]
    elif head in _SELECTORS and isinstance(arguments[0], SequenceTerm):
        choices = arguments[0].items
    else:
        return False
    return all(isinstance(x, CallTerm) and x.is_distribution for x in choices)


_SELECTORS = frozenset({"get", "nth", "first", "second", "last"})


class SequenceTerm(Term):
    """A vector or sequence with parts that are not constant.

    Attributes:
        items: The elements.
        is_vector: Whether it is a vector.
        is_opaque: Whether some element has no known value.
        is_list: Whether Daphne takes it for a call, which no function looks into.
        settled: The constant it stands for, if that is certain.
    """

    __slots__ = ("is_list", "is_opaque", "is_vector", "items", "settled")

    def __init__(
        self,
        items: tuple[Any, ...],
        *,
        is_vector: bool,
        is_opaque: bool,
        size: int,
        is_list: bool = False,
        settled: Any = UNKNOWN,
    ) -> None:
        self.items = items
        self.is_vector = is_vector
        self.is_opaque = is_opaque
        self.is_list = is_list
        self.settled = settled
        self.size = size


class MapTerm(Term):
    """A map with parts that are not constant; its keys are constants or variables.

    Attributes:
        entries: The map, on compile-time values.
    """

    __slots__ = ("entries",)

    def __init__(self, entries: HashMap) -> None:
        self.entries = entries
        self.size = 2 + sum(size(k) + size(v) for k, v in entries.pairs())


class UserFunction:
    """A function of the program.

    Attributes:
        name: Its name.
        parameters: Its parameters.
        bodies: Its bodies; the last one gives the value.
        form: The whole `defn`.
        is_prelude: Whether the language brings it.
        scope: What the names around it stand for, where it has no name (`fn`).
    """

    __slots__ = ("bodies", "form", "is_prelude", "name", "parameters", "scope")

    def __init__(
        self,
        name: str,
        parameters: tuple[Symbol, ...],
        form: Compound,
        *,
        is_prelude: bool = False,
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.bodies = form.items[3:]
        self.form = form
        self.is_prelude = is_prelude
        self.scope = scope or {}


class FunctionTerm(Term):
    """A function as a value.

    Attributes:
        name: What it was called where it was named.
        function: The program's function; None for one of the language.
        span: Where it was named.
    """

    __slots__ = ("function", "name", "span")

    def __init__(self, name: str, function: UserFunction | None, span: Span) -> None:
        self.name = name
        self.function = function
        self.span = span
        self.size = 1


class LocalTerm(Term):
    """A name that a let in the document binds."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 1


class LetTerm(Term):
    """A let that stays in the document: `body` with `name` standing for `value`."""

    __slots__ = ("body", "name", "value")

    def __init__(self, name: str, value: Any, body: Any) -> None:
        self.name = name
        self.value = value
        self.body = body
        self.size = 4 + size(value) + size(body)


def parts_of(value: Any) -> tuple[Any, ...]:
    """Return what a call, a sequence or a map is made of, nothing for others."""
    match value:
        case CallTerm():
            return value.arguments
        case SequenceTerm():
            return value.items
        case MapTerm():
            return tuple(x for pair in value.entries.pairs() for x in pair)
    return ()


def is_constant(value: Any) -> bool:
    """Return whether `value` is a plain value all through."""
    return not isinstance(value, Term)


def known(value: Any) -> Any:
    """Return the plain value that a core function may use for `value`, or UNKNOWN."""
    match value:
        case CallTerm():
            return value.known
        case SequenceTerm():
            if value.is_opaque:
                return UNKNOWN
            items = tuple(map(known, value.items))
            return items if value.is_vector else Seq(items)
        case MapTerm():
            pairs = [(known(k), known(v)) for k, v in value.entries.pairs()]
            is_open = any(x is UNKNOWN for pair in pairs for x in pair)
            return UNKNOWN if is_open else HashMap(pairs)
        case Term():
            return UNKNOWN
    return value


def settled(value: Any) -> Any:
    """Return the plain value that is certain for `value`, or UNKNOWN."""
    if isinstance(value, (CallTerm, SequenceTerm)):
        return value.settled if value.settled is not UNKNOWN else known(value)
    return known(value)


def size(value: Any) -> int:
    """Return how many parts the document would write for `value`, at most."""
    if isinstance(value, Term):
        return value.size
    if isinstance(value, tuple):
        return constant_size(value)
    return 1 if not isinstance(value, HashMap) else constant_size(value)

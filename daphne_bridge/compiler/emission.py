"""This file writes what a program means as Daphne's JSON triple.

    [functions, {"V": names, "A": name -> children, "P": name -> link function,
                 "Y": name -> observed value}, value of the program]

A link function is `["sample*", d]`, `["observe*", d, y]` or, under a random condition,
`["if", guard, ["observe*", d, y], 1]`. Vectors and other sequences are written
`["vector", ...]` and maps `["hash-map", key, value, ...]`, in Y as plain arrays and
objects. `A` lists the variables of the distribution, as Daphne's does; those of the
guard stand in the link function.

Parts that the terms share are one Python list here, too: the triple is small in memory
even where its text is large, and must not be changed in place.
"""

from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from ..language.primitives import HashMap, Keyword, Seq, Value, format_double
from .desugar import desugar
from .forms import Form, Literal, Span, Symbol, head_name
from .meaning import Analysis, Variable
from .recursion import Recursive, run
from .shared_parts import is_large, is_shared, with_shared
from .source import Source
from .terms import (
    CallTerm,
    FunctionTerm,
    LetTerm,
    LocalTerm,
    MapTerm,
    NodeTerm,
    SequenceTerm,
    UserFunction,
    parts_of,
)

__all__ = ["Emission", "document", "form_json", "free_nodes"]

Json = Any


def document(analysis: Analysis, source: Source) -> list[Json]:
    """Return the JSON triple of a program.

    Raises:
        CompileError: A value has no place in JSON (a function, an infinity).
    """
    numbers = iter(range(analysis.count, 1 << 60))
    functions: dict[str, Json] = {}
    if analysis.has_functions:
        for function in analysis.functions:
            functions[_plain(function.name)] = _function(function, source, numbers)
    emission = Emission.of(analysis, source)
    children: dict[str, list[str]] = {}
    links: dict[str, Json] = {}
    observations: dict[str, Json] = {}
    for variable in analysis.variables:
        links[variable.name] = emission.link_function(variable)
        for parent in free_nodes(written_parts(variable)[0]):
            children.setdefault(parent, []).append(variable.name)
        if variable.is_observed:
            observations[variable.name] = emission.write(
                variable.observation, variable.span, is_data=True
            )
    result = analysis.result
    if isinstance(result, FunctionTerm) and result.function is not None:
        value: Json = _plain(result.name)
    else:
        value = emission.term(result, analysis.span)
    graph = {"V": list(links), "A": children, "P": links, "Y": observations}
    return [functions, graph, value]


def free_nodes(value: Any) -> tuple[str, ...]:
    """Return the names of the random variables in a value, in order, each once."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    work = [value]
    while work:
        item = work.pop()
        if isinstance(item, NodeTerm):
            names[item.name] = None
            continue
        is_let = isinstance(item, LetTerm)
        parts = (item.value, item.body) if is_let else parts_of(item)
        if parts and id(item) not in seen:
            seen.add(id(item))
            work.extend(reversed(parts))
    return tuple(names)


def written_parts(variable: Variable) -> tuple[Any, Any]:
    """Return a variable's distribution and observation as the document writes them."""
    return variable.kept or (variable.distribution, variable.observation)


class Emission:
    """Writes values as JSON; a value that is written twice is written once."""

    def __init__(
        self,
        source: Source,
        not_finite: Span | None = None,
        *,
        shares: bool = False,
    ) -> None:
        """Return what writes values.

        Args:
            source: The program's text, for messages.
            not_finite: Where a constant is not finite.
            shares: Whether what is repeated in a large value gets a name.
        """
        self._source = source
        self._not_finite = not_finite
        self._shares = shares
        self._written: dict[tuple[int, bool], tuple[Any, Json]] = {}

    @classmethod
    def of(cls, analysis: Analysis, source: Source) -> "Emission":
        """Return what writes the values of a program."""
        values = [analysis.result]
        for variable in analysis.variables:
            values += [*written_parts(variable), variable.guard]
        shares = is_large(values)
        return cls(source, analysis.not_finite, shares=shares)

    def link_function(self, variable: Variable) -> Json:
        """Return the link function of a variable."""
        given, observed = written_parts(variable)
        distribution = self.term(given, variable.span)
        if not variable.is_observed:
            return ["sample*", distribution]
        link = ["observe*", distribution, self.term(observed, variable.span)]
        if variable.guard is True:
            return link
        return ["if", self.term(variable.guard, variable.span), link, 1]

    def term(self, value: Any, span: Span) -> Json:
        """Return the JSON of a value, with names for what is repeated in a large one.

        Raises:
            CompileError: The value has no place in JSON.
        """
        written = self.write(value, span)
        if self._shares and is_shared(value):
            return with_shared(written)
        return written

    def write(self, value: Any, span: Span, *, is_data: bool = False) -> Json:
        """Return the JSON of a value.

        Args:
            value: A compile-time value.
            span: Where to complain.
            is_data: Whether to write plain arrays and objects, as in `Y`.

        Raises:
            CompileError: The value has no place in JSON.
        """
        return run(self._write(value, span, is_data=is_data))

    def _write(self, value: Any, span: Span, *, is_data: bool) -> Recursive[Json]:
        key = (id(value), is_data)
        if key in self._written:
            return self._written[key][1]
        written: list[Json]
        match value:
            case LetTerm():
                bound = yield self._write(value.value, span, is_data=is_data)
                body = yield self._write(value.body, span, is_data=is_data)
                return ["let", [value.name, bound], body]
            case CallTerm():
                written = [value.head]
                parts: tuple[Any, ...] = value.arguments
            case SequenceTerm() | tuple():
                self._refuse_empty_list(value, span)
                written = [] if is_data else ["vector"]
                parts = value.items if isinstance(value, SequenceTerm) else value
            case MapTerm() | HashMap():
                entries = value.entries if isinstance(value, MapTerm) else value
                written = [] if is_data else ["hash-map"]
                parts = tuple(x for pair in entries.pairs() for x in pair)
            case _:
                return self._atom(value, span)
        for part in parts:
            if isinstance(part, (int, float)):
                written.append(self._atom(part, span))
            else:
                written.append((yield self._write(part, span, is_data=is_data)))
        result: Json = written
        if is_data and isinstance(value, (MapTerm, HashMap)):
            keys = map(_key_text, written[::2])
            result = dict(zip(keys, written[1::2], strict=True))
        self._written[key] = (value, result)
        return result

    def _refuse_empty_list(self, value: Any, span: Span) -> None:
        if isinstance(value, Seq) and not value:
            raise self._source.compile_error(
                span,
                "the empty list has no place in a document",
                "an empty vector, such as (vec (rest xs))",
                "()",
            )

    def _atom(self, value: Any, span: Span) -> Json:
        match value:
            case NodeTerm() | LocalTerm():
                return value.name
            case FunctionTerm():
                raise self._source.compile_error(
                    value.span,
                    "a function has no place in a document",
                    "a call of it",
                    value.name,
                )
            case float() if not isfinite(value):
                raise self._source.compile_error(
                    self._not_finite or span,
                    "a value is not finite, which JSON cannot hold",
                    "a finite number",
                    format_double(value),
                )
        return _atom_json(value)


def _key_text(key: Json) -> str:
    """Return the text of a JSON key, as Clojure's writer makes it."""
    if isinstance(key, str):
        return key
    if key is None:
        return ""
    if isinstance(key, bool):
        return "true" if key else "false"
    return format_double(key) if isinstance(key, float) else str(key)


def _atom_json(value: Value) -> Json:
    match value:
        case Keyword():
            return _plain(str.__str__(value))
        case str():
            return f'"{value}"'
        case bool() | None:
            return value
        case int():
            return int(value)
        case Fraction():
            return float(value)
        case Decimal():
            return int(value) if value.as_tuple().exponent == 0 else float(value)
    return value


def _plain(name: str) -> str:
    """Return the part of a name after its namespace."""
    return name.rpartition("/")[2] or name


def _function(function: UserFunction, source: Source, numbers: Any) -> Json:
    parameters = [_plain(p.name) for p in function.parameters]
    bodies = [form_json(desugar(b, source, numbers)) for b in function.bodies]
    return ["fn", parameters, *bodies]


def form_json(form: Form) -> Json:
    """Return a form as Daphne writes it, with vectors and maps as calls."""
    return run(_form_json(form, is_plain=False))


def _form_json(form: Form, *, is_plain: bool) -> Recursive[Json]:
    match form:
        case Symbol(name=name):
            return _plain(name)
        case Literal(value=value):
            return _atom_json(value)
    head = head_name(form)
    plain_at = {"let": 1, "fn": 1, "defn": 2}.get(head or "", 0)
    written: list[Json] = []
    if form.kind == "vector" and not is_plain:
        written.append("vector")
    elif form.kind == "map":
        written.append("hash-map")
    for position, item in enumerate(form.items):
        is_binding = bool(plain_at) and position == plain_at
        written.append((yield _form_json(item, is_plain=is_binding)))
    return written

"""This file reads a document's raw terms as expressions.

Daphne's JSON writes symbols, keywords and node names alike as plain text, leaves user
functions inside `observe` uninlined, and has calls, sequences and argument lists all
as arrays. The reader resolves a bare name in this order: local name, node, constant of
the language, and, where a call takes data (`get`, `hash-map`, `=` ...), keyword. User
functions, `let`, `loop`, `foreach`, and `reduce`, `map`, `apply`, `filter` over a
collection of known length are inlined; `if` with a constant condition is
decided before its branches are read, so that recursion over known data ends. What
remains unknown is reported with its JSON path; nothing is guessed.

Reading uses an explicit stack of generators (a trampoline): terms may be nested to any
depth. The numbers of steps, of inlined calls and of turns of loops are bounded.
"""

import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Problem
from ..language.families import FAMILIES
from ..language.nearest import or_nearest
from ..language.primitives import PRIMITIVES, HashMap, Keyword
from .expression import (
    Call,
    Constant,
    EvaluationError,
    Expression,
    ExpressionTable,
    evaluate,
    free_names,
    is_false,
)

__all__ = ["CALL_DEPTH_LIMIT", "UNROLL_LIMIT", "ParsedLink", "TermReader", "json_path"]

STEP_LIMIT = 50_000_000
"""Most terms read from one document."""

CALL_DEPTH_LIMIT = 30_000
"""Most calls of the document's functions inside one another."""

UNROLL_LIMIT = 200_000
"""Most inlined calls and turns of loops in one document."""

_SHOWN_DEPTH = 24
"""Most keys shown of a JSON path."""

_CONSTANTS: Mapping[str, float] = {"PI": math.pi, "E": math.e}

_TAKES_KEYWORDS = frozenset(
    [
        "get",
        "put",
        "assoc",
        "hash-map",
        "vector",
        "list",
        "=",
        "==",
        "not=",
        "contains?",
        "conj",
        "cons",
        "append",
    ]
)

_RANDOM = object()
"""Says that a value depends on a node, or has none."""

Path = tuple[Any, ...]
"""Where a term stands, linked: `(path of what contains it, key)`, or `()`."""

Scope = Mapping[str, Expression | str]
_Step = Generator[tuple[Any, Scope, Path], Expression, Expression]


@dataclass(frozen=True, slots=True)
class ParsedLink:
    """The link function of one node.

    Attributes:
        kind: "sample*", "observe*", or "never" for an observe that cannot happen.
        distribution: The distribution, None if `kind` is "never".
        value: What is observed, None unless `kind` is "observe*".
        condition: When the observe counts, None if always.
    """

    kind: str
    distribution: Expression | None
    value: Expression | None = None
    condition: Expression | None = None


class _Unreadable(Exception):
    """A term has no meaning; the problem has been noted."""


def json_path(path: Iterable[str | int]) -> str:
    """Return a JSON path as text, `$[1].P.sample3[1]`."""
    keys = (
        f"[{key}]"
        if isinstance(key, int)
        else (f".{key}" if re.fullmatch(r"[\w-]+", key) else f"[{key!r}]")
        for key in path
    )
    return "$" + "".join(keys)


class TermReader:
    """Reads terms of one document; collects problems instead of stopping.

    Args:
        functions: The document's user functions, raw.
        vertices: Names of its nodes.
        table: Where expressions are made.
        source: File name for messages.

    Attributes:
        problems: What was wrong, so far.
        warnings: What was ambiguous, so far.
        steps: How many terms were read, so far.
        takes_keywords: Whether a name that means nothing is a keyword, which documents
            write without its colon: so in the return value.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        vertices: Sequence[str],
        table: ExpressionTable,
        source: str,
    ) -> None:
        self._functions = functions
        self._vertices = frozenset(vertices)
        self._table = table
        self._source = source
        self._unrolled = 0
        self._call_depth = 0
        self._root: Path = ()
        self._reported: set[tuple[str, str]] = set()
        self._globals: Scope = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.steps = 0
        self.takes_keywords = False

    def where(self, *keys: str | int) -> str:
        """Return a place in the document as text."""
        return f"{self._source}: {json_path(keys)}"

    def link(self, name: str, term: Any) -> ParsedLink | None:
        """Return the link function of a node, or None after noting a problem."""
        path = _linked(1, "P", name)
        condition: Expression | None = None
        while isinstance(term, list) and len(term) == 4 and term[0] == "if":
            test = self._read(term[1], (path, 1))
            if test is None:
                return None
            if isinstance(test, Constant) and is_false(test.value):
                return ParsedLink("never", None)
            if not isinstance(test, Constant):
                condition = (
                    test
                    if condition is None
                    else self._table.call("and", [condition, test])
                )
            term, path = term[2], (path, 2)
        if not isinstance(term, list) and term in (0, 1):
            return ParsedLink("never", None)
        head = term[0] if isinstance(term, list) and term else None
        size = {"sample*": 2, "observe*": 3}.get(head) if isinstance(head, str) else 0
        if not size or len(term) != size:
            self._problem(
                path,
                "not a link function",
                '["sample*", distribution] or ["observe*", distribution, value]',
                _brief(term),
            )
            return None
        distribution = self._read(term[1], (path, 1))
        value = None
        if head == "observe*":
            value = self._read_value(term[2], (path, 2))
            if value is None:
                return None
        if distribution is None:
            return None
        if not self._is_distribution(distribution, (path, 1)):
            return None
        return ParsedLink(str(head), distribution, value, condition)

    def read(self, term: Any, *keys: str | int) -> Expression | None:
        """Return the expression of the term that stands at `keys` of the document.

        Returns None after noting a problem.
        """
        return self._read(term, _linked(*keys))

    def _read(self, term: Any, path: Path) -> Expression | None:
        try:
            return self._run(term, path)
        except _Unreadable:
            return None

    def read_observation(self, name: str, value: Any) -> Expression | None:
        """Return the expression of an entry of `Y`, where arrays are plain data.

        An array whose first entry names a primitive is an unevaluated call.
        """
        if isinstance(value, str):
            return self._read_value(value, _linked(1, "Y", name))
        if isinstance(value, dict):
            items: list[Any] = ["hash-map"]
            for key, member in value.items():
                items += [key, _tagged(member)]
            return self.read(items, 1, "Y", name)
        return self.read(_tagged(value), 1, "Y", name)

    def _read_value(self, term: Any, path: Path) -> Expression | None:
        """Return the expression of what is observed; a bare name may be a keyword."""
        if not isinstance(term, str):
            return self._read(term, path)
        try:
            return self._name(term, self._globals, path, keyword=True)
        except _Unreadable:
            return None

    def _problem(
        self, path: Path, what: str, expected: str = "", got: str = ""
    ) -> None:
        where = self.where(*_keys(path))
        if (what, where) not in self._reported:
            self._reported.add((what, where))
            self.problems.append(Problem(where, what, expected, got))

    def _refuse(
        self, path: Path, what: str, expected: str = "", got: str = ""
    ) -> _Unreadable:
        self._problem(path, what, expected, got)
        return _Unreadable(what)

    def _run(self, term: Any, path: Path) -> Expression:
        """Drive the generators; return the expression of `term`."""
        self._root, self._call_depth = path, 0
        first = self._atom(term, self._globals, path)
        if first is not None:
            return first
        stack: list[_Step] = [self._compound(term, self._globals, path)]
        answer: Expression | None = None
        while True:
            try:
                request = next(stack[-1]) if answer is None else stack[-1].send(answer)
            except StopIteration as stop:
                stack.pop()
                answer = stop.value
                if not stack:
                    return stop.value  # type: ignore[no-any-return]
                continue
            self.steps += 1
            if self.steps > STEP_LIMIT:
                raise self._refuse(
                    path, "the document is too long", f"at most {STEP_LIMIT} terms"
                )
            answer = self._atom(*request)
            if answer is None:
                stack.append(self._compound(*request))

    def _atom(self, term: Any, scope: Scope, path: Path) -> Expression | None:
        """Return the expression of a term that is not an array, else None."""
        if isinstance(term, str):
            return self._name(term, scope, path)
        if isinstance(term, list):
            return None
        if isinstance(term, dict):
            raise self._refuse(path, "an object is not a term", '["hash-map", ...]')
        return self._table.constant(term)

    def _name(
        self, name: str, scope: Scope, path: Path, *, keyword: bool = False
    ) -> Expression:
        if len(name) > 1 and name[0] == name[-1] == '"':
            return self._table.constant(name[1:-1])
        bound = scope.get(name)
        if isinstance(bound, str):
            raise self._refuse(path, f"the function {bound} is not a value here")
        if bound is not None:
            return bound
        if name in self._vertices:
            return self._table.reference(name)
        if name in _CONSTANTS:
            return self._table.constant(_CONSTANTS[name])
        known = name in PRIMITIVES or name in FAMILIES or name in self._functions
        if keyword or (self.takes_keywords and not known):
            return self._table.constant(Keyword(name.removeprefix(":")))
        raise self._refuse(
            path,
            f"the function {name} is not a value here"
            if known
            else f"unknown name {name}",
            "a number" if known else "a node, a number or a call",
        )

    def _compound(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read an array: yields the parts it needs, returns its expression."""
        if not term:
            return self._table.call("vector", [])
        head = term[0]
        if not isinstance(head, str):
            # A sequence that the original wrote without a tag.
            items = []
            for index, item in enumerate(term):
                items.append((yield item, scope, (path, index)))
            return self._table.call("vector", items)
        alias = scope.get(head)
        if isinstance(alias, str):
            head = alias
        elif alias is not None or head in self._vertices:
            # A sequence whose first item is a node or a local value.
            items = []
            for index, item in enumerate(term):
                items.append((yield item, scope, (path, index)))
            return self._table.call("vector", items)
        special = self._SPECIAL.get(head)
        if head in self._functions and head not in FAMILIES:
            return (yield from self._inline(head, term[1:], scope, path))
        if special is not None:
            return (yield from special(self, term, scope, path))
        family, primitive = FAMILIES.get(head), PRIMITIVES.get(head)
        if family is None and primitive is None:
            for index, item in enumerate(term[1:], start=1):
                if isinstance(item, list):
                    yield item, scope, (path, index)
            raise self._refuse(
                (path, 0),
                f"unknown name {head}",
                or_nearest(
                    "a distribution, a primitive or a function of the document",
                    head,
                    (*FAMILIES, *PRIMITIVES, *self._functions),
                ),
            )
        arguments: list[Expression] = []
        takes_keywords = head in _TAKES_KEYWORDS
        for index, item in enumerate(term[1:], start=1):
            place = (path, index)
            if takes_keywords and isinstance(item, str):
                arguments.append(self._name(item, scope, place, keyword=True))
            else:
                arguments.append((yield item, scope, place))
        self._check_arity(head, len(arguments), path)
        if head == "categorical":
            arguments = [self._pairs(arguments[0])]
        return self._table.call(head, arguments)

    def _pairs(self, categories: Expression) -> Expression:
        """Return the categories of a map as a vector of pairs."""
        call = self._table.call
        if isinstance(categories, Constant) and isinstance(categories.value, HashMap):
            return self._table.constant(categories.value.pairs())
        if isinstance(categories, Call) and categories.head == "hash-map":
            parts = categories.arguments
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return call("vector", [call("vector", pair) for pair in pairs])
        return categories

    def _check_arity(self, head: str, count: int, path: Path) -> None:
        if head in FAMILIES:
            names = FAMILIES[head].parameters
            if count != len(names):
                raise self._refuse(
                    path,
                    f"{head} has {_plural(count, 'parameter')}",
                    f"{len(names)} ({', '.join(names)})",
                )
            return
        primitive = PRIMITIVES[head]
        most = primitive.max_args
        if count < primitive.min_args or (most is not None and count > most):
            least = primitive.min_args
            expected = (
                f"{least} or more"
                if most is None
                else (f"{least}" if least == most else f"{least} to {most}")
            )
            raise self._refuse(
                path, f"{head} has {_plural(count, 'argument')}", expected
            )

    def _inline(
        self, name: str, arguments: list[Any], scope: Scope, path: Path
    ) -> _Step:
        function = self._functions[name]
        parameters, body = function[1], function[2]
        if len(parameters) != len(arguments):
            raise self._refuse(
                path,
                f"the function {name} has {_plural(len(arguments), 'argument')}",
                f"{len(parameters)}",
            )
        self._unroll(1)
        if self._call_depth >= CALL_DEPTH_LIMIT:
            raise self._refuse(
                self._root,
                f"the calls of {name} do not end",
                f"at most {CALL_DEPTH_LIMIT} calls inside one another",
                "more",
            )
        inner: dict[str, Expression | str] = {}
        for index, (parameter, argument) in enumerate(
            zip(parameters, arguments, strict=True), start=1
        ):
            function_name = self._function_name(argument, scope)
            if function_name is not None:
                inner[parameter] = function_name
            else:
                inner[parameter] = yield argument, scope, (path, index)
        self._call_depth += 1
        result = yield body, inner, _linked(0, name, 2)
        self._call_depth -= 1
        return result

    def _unroll(self, count: int) -> None:
        """Count inlined calls and turns of loops, and refuse too many."""
        self._unrolled += count
        if self._unrolled > UNROLL_LIMIT:
            raise self._refuse(
                self._root,
                "the functions and loops of the document do not end",
                f"at most {UNROLL_LIMIT} calls and turns",
                "more",
            )

    def _function_name(self, term: Any, scope: Scope) -> str | None:
        """Return the function that a bare name stands for, if it stands for one."""
        if not isinstance(term, str):
            return None
        bound = scope.get(term)
        if bound is not None:
            return bound if isinstance(bound, str) else None
        if term in self._vertices:
            return None
        known = term in self._functions or term in PRIMITIVES or term in FAMILIES
        return term if known else None

    def _let(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        if len(term) < 3 or not isinstance(term[1], list) or len(term[1]) % 2:
            raise self._refuse(path, "malformed let", '["let", [name, value], body]')
        inner: dict[str, Expression | str] = dict(scope)
        bindings = term[1]
        for index in range(0, len(bindings), 2):
            function_name = self._function_name(bindings[index + 1], inner)
            inner[bindings[index]] = (
                function_name
                if function_name is not None
                else (yield bindings[index + 1], dict(inner), ((path, 1), index + 1))
            )
        result: Expression = self._table.constant(None)
        for index, body in enumerate(term[2:], start=2):
            result = yield body, inner, (path, index)
        return result

    def _if(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        if len(term) not in (3, 4):
            raise self._refuse(path, "malformed if", '["if", condition, then, else]')
        condition = yield term[1], scope, (path, 1)
        otherwise = term[3] if len(term) == 4 else None
        if isinstance(condition, Constant):
            is_taken = not is_false(condition.value)
            return (
                yield (
                    term[2] if is_taken else otherwise,
                    scope,
                    (path, 2 if is_taken else 3),
                )
            )
        then = yield term[2], scope, (path, 2)
        other = yield otherwise, scope, (path, 3)
        return self._table.call("if", [condition, then, other])

    def _count(self, expression: Expression, what: str, path: Path) -> int:
        if isinstance(expression, Constant) and isinstance(expression.value, int):
            count = int(expression.value)
            self._unroll(max(count, 0))
            return count
        raise self._refuse(
            path, f"the count of this {what} is not known", "a whole number"
        )

    def _loop(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        if len(term) < 4:
            raise self._refuse(path, "malformed loop", '["loop", n, start, f, ...]')
        count = self._count((yield term[1], scope, (path, 1)), "loop", path)
        accumulator = yield term[2], scope, (path, 2)
        inner: dict[str, Expression | str] = dict(scope)
        extra = []
        for index, argument in enumerate(term[4:]):
            name = f"a {index}"
            function_name = self._function_name(argument, scope)
            inner[name] = (
                function_name
                if function_name is not None
                else (yield argument, scope, (path, 4 + index))
            )
            extra.append(name)
        for index in range(count):
            inner = dict(inner)
            inner["acc "] = accumulator
            step = [term[3], index, "acc ", *extra]
            accumulator = yield step, inner, path
        return accumulator

    def _foreach(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        bindings = term[2] if len(term) > 3 else None
        if isinstance(bindings, list) and bindings[:1] == ["vector"]:
            bindings = bindings[1:]
        if not isinstance(bindings, list) or len(bindings) % 2:
            raise self._refuse(
                path, "malformed foreach", '["foreach", n, [name, values], body]'
            )
        count = self._count((yield term[1], scope, (path, 1)), "foreach", path)
        collections = []
        for index in range(1, len(bindings), 2):
            collections.append((yield bindings[index], scope, ((path, 2), index)))
        items = []
        for position in range(count):
            inner: dict[str, Expression | str] = dict(scope)
            for name, collection in zip(bindings[::2], collections, strict=True):
                inner[name] = self._table.call(
                    "get", [collection, self._table.constant(position)]
                )
            body: Expression = self._table.constant(None)
            for index, part in enumerate(term[3:], start=3):
                body = yield part, inner, (path, index)
            items.append(body)
        return self._table.call("vector", items)

    def _map(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read `["map" or "mapv", function, collection, ...]`."""
        if len(term) < 3:
            raise self._refuse(path, f"malformed {term[0]}", '["map", f, values]')
        function = self._function_argument(term, scope, path)
        columns = []
        for index in range(2, len(term)):
            collection = yield term[index], scope, (path, index)
            columns.append(self._elements(collection, term[0], (path, index)))
        results = []
        for row in zip(*columns, strict=False):
            results.append((yield self._called(function, row, scope, path)))
        return self._table.call("vector", results)

    def _reduce(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read `["reduce", function, collection]`, or with a start before it."""
        if len(term) not in (3, 4):
            raise self._refuse(path, "malformed reduce", '["reduce", f, values]')
        function = self._function_argument(term, scope, path)
        items: tuple[Expression, ...] = ()
        if len(term) == 4:
            items = ((yield term[2], scope, (path, 2)),)
        last = len(term) - 1
        collection = yield term[last], scope, (path, last)
        items += self._elements(collection, "reduce", (path, last))
        if not items:
            return (yield [function], scope, path)
        result = items[0]
        for item in items[1:]:
            result = yield self._called(function, (result, item), scope, path)
        return result

    def _apply(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read `["apply", function, argument, ..., collection]`."""
        if len(term) < 3:
            raise self._refuse(path, "malformed apply", '["apply", f, values]')
        function = self._function_argument(term, scope, path)
        arguments: list[Expression] = []
        for index in range(2, len(term)):
            arguments.append((yield term[index], scope, (path, index)))
        place = (path, len(term) - 1)
        arguments += self._elements(arguments.pop(), "apply", place)
        return (yield self._called(function, tuple(arguments), scope, path))

    def _filter(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read `["filter", "filterv" or "remove", test, collection]`."""
        if len(term) != 3:
            raise self._refuse(path, f"malformed {term[0]}", '["filter", f, values]')
        function = self._function_argument(term, scope, path)
        collection = yield term[2], scope, (path, 2)
        kept = []
        for item in self._elements(collection, term[0], (path, 2)):
            verdict = yield self._called(function, (item,), scope, path)
            value = self._value(verdict)
            if value is _RANDOM:
                raise self._refuse(
                    path,
                    f"a random test decides which elements {term[0]} keeps",
                    "a test of known values",
                )
            if is_false(value) == (term[0] == "remove"):
                kept.append(item)
        return self._table.call("vector", kept)

    def _next_table(self, term: list[Any], scope: Scope, path: Path) -> _Step:
        """Read `["categorical-crp", counts, alpha]`: the weights are both together."""
        if len(term) != 3:
            raise self._refuse(
                path,
                f"{term[0]} has {_plural(len(term) - 1, 'parameter')}",
                "2 (counts, concentration)",
            )
        counts = yield term[1], scope, (path, 1)
        concentration = yield term[2], scope, (path, 2)
        weights = (*self._elements(counts, term[0], (path, 1)), concentration)
        return self._table.call("discrete", [self._table.call("vector", weights)])

    def _function_argument(self, term: list[Any], scope: Scope, path: Path) -> str:
        name = self._function_name(term[1], scope)
        if name is None:
            raise self._refuse(
                (path, 1),
                f"{term[0]} has no function",
                "the name of a primitive or of a function of the document",
                _brief(term[1]),
            )
        return name

    def _called(
        self, function: str, values: tuple[Expression, ...], scope: Scope, path: Path
    ) -> tuple[Any, Scope, Path]:
        """Return the request for a call of `function` on expressions."""
        names = [f"item {index}" for index in range(len(values))]
        local = dict(zip(names, values, strict=True))
        return [function, *names], {**scope, **local}, path

    def _elements(
        self, collection: Expression, head: str, path: Path
    ) -> tuple[Expression, ...]:
        """Return the elements of a collection whose length is known."""
        if isinstance(collection, Call) and collection.head in ("vector", "list"):
            return collection.arguments
        value = self._value(collection)
        if value is None:
            return ()
        if not isinstance(value, tuple):
            raise self._refuse(
                path, f"{head} needs a collection of known length", "a vector"
            )
        return tuple(map(self._table.constant, value))

    def _value(self, expression: Expression) -> Any:
        """Return what an expression without nodes is, else `_RANDOM`."""
        if isinstance(expression, Constant):
            return expression.value
        if free_names(expression):
            return _RANDOM
        try:
            return evaluate(expression, {})
        except EvaluationError:
            return _RANDOM

    def _sample(
        self,
        term: list[Any],
        scope: Scope,  # noqa: ARG002
        path: Path,
    ) -> _Step:
        raise self._refuse(
            path,
            f"a {term[0]} inside a link function",
            "the name of the node; the original compiler leaves nested samples here",
        )
        yield  # makes this a generator, as its siblings are

    _SPECIAL: Mapping[str, Callable[["TermReader", list[Any], Scope, Path], _Step]] = {
        "let": _let,
        "if": _if,
        "loop": _loop,
        "foreach": _foreach,
        "map": _map,
        "mapv": _map,
        "reduce": _reduce,
        "apply": _apply,
        "filter": _filter,
        "filterv": _filter,
        "remove": _filter,
        "categorical-crp": _next_table,
        "sample": _sample,
        "observe": _sample,
        "sample*": _sample,
        "observe*": _sample,
    }

    def _is_distribution(self, expression: Expression, path: Path) -> bool:
        """Note a problem unless the expression selects among distributions."""
        stack = [expression]
        while stack:
            current = stack.pop()
            if isinstance(current, Call) and current.head in FAMILIES:
                continue
            if isinstance(current, Call) and current.head == "if":
                stack.extend(current.arguments[1:])
                continue
            if (
                isinstance(current, Call)
                and current.head in ("get", "nth")
                and len(current.arguments) == 2
                and isinstance(current.arguments[0], Call)
                and current.arguments[0].head == "vector"
            ):
                stack.extend(current.arguments[0].arguments)
                continue
            got = current.head if isinstance(current, Call) else repr(current)
            self._problem(
                path, "not a distribution", "a call such as (normal 0 1)", got
            )
            return False
        return True


def _tagged(value: Any) -> Any:
    """Return an entry of `Y` with its plain arrays marked as vectors."""
    if not isinstance(value, list):
        return value
    head = value[0] if value else None
    if isinstance(head, str) and (head in PRIMITIVES or head == "if"):
        return value
    return ["vector", *map(_tagged, value)]


def _linked(*keys: str | int) -> Path:
    path: Path = ()
    for key in keys:
        path = (path, key)
    return path


def _keys(path: Path) -> list[str | int]:
    """Return the keys of a linked path, outermost first; deep paths are cut."""
    keys: list[str | int] = []
    while path:
        path, key = path
        keys.append(key)
    keys.reverse()
    return keys if len(keys) <= _SHOWN_DEPTH else [*keys[:_SHOWN_DEPTH], "..."]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _brief(term: Any) -> str:
    text = repr(term)
    return text if len(text) <= 60 else text[:57] + "..."

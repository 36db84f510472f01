"""This file drives the reading of a document's raw terms as expressions.

Daphne's JSON writes symbols, keywords and node names alike as plain text. A bare name
is resolved in this order: local name, node, constant of the language, and, where a call
takes data (`get`, `hash-map`, `=` ...), keyword. What remains unknown is reported with
its JSON path; nothing is guessed.

Reading uses an explicit stack of generators (a trampoline): terms may be nested to any
depth. How an array is read is a `Form`, a generator that yields the terms it needs,
each with its scope and path, and returns its expression. The numbers of steps, of
inlined calls and of turns of loops are bounded.
"""

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from ..errors import Problem
from ..language.families import FAMILIES
from ..language.primitives import PRIMITIVES, Keyword
from .expression import Expression, ExpressionTable
from .json_paths import Path, json_path, keys_of, linked

__all__ = [
    "CALL_DEPTH_LIMIT",
    "UNROLL_LIMIT",
    "Form",
    "Scope",
    "Step",
    "TermReader",
    "read_each",
]

STEP_LIMIT = 50_000_000
"""Most terms read from one document."""

CALL_DEPTH_LIMIT = 30_000
"""Most calls of the document's functions inside one another."""

UNROLL_LIMIT = 200_000
"""Most inlined calls and turns of loops in one document."""

_CONSTANTS: Mapping[str, float] = {"PI": math.pi, "E": math.e}

Scope = Mapping[str, Expression | str]
"""What local names stand for: expressions, or names of functions."""

Step = Generator[tuple[Any, Scope, Path], Expression, Expression]
"""The reading of one array: yields what it needs read, returns its expression."""

Form = Callable[["TermReader", list[Any], Scope, Path], Step]
"""How an array is read."""


def read_each(
    term: list[Any], start: int, scope: Scope, path: Path
) -> Generator[tuple[Any, Scope, Path], Expression, list[Expression]]:
    """Return the expressions of an array's items from `start` on."""
    items = []
    for index in range(start, len(term)):
        items.append((yield term[index], scope, (path, index)))
    return items


class _Unreadable(Exception):
    """A term has no meaning; the problem has been noted."""


class TermReader:
    """Reads terms of one document; collects problems instead of stopping.

    Args:
        functions: The document's user functions, raw.
        vertices: Names of its nodes.
        table: Where expressions are made.
        source: File name for messages.
        read_array: How arrays are read.

    Attributes:
        functions: The document's user functions, raw.
        vertices: Names of its nodes.
        table: Where expressions are made.
        problems: What was wrong, so far.
        steps: How many terms were read, so far.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        vertices: Iterable[str],
        table: ExpressionTable,
        source: str,
        read_array: Form,
    ) -> None:
        self.functions = functions
        self.vertices = frozenset(vertices)
        self.table = table
        self.problems: list[Problem] = []
        self.steps = 0
        self._source = source
        self._read_array = read_array
        self._reported: set[tuple[str, str]] = set()
        self._root: Path = ()
        self._unrolled = 0
        self._call_depth = 0
        self._takes_keywords = False
        # What a document holds in several places is read once.
        self._known: dict[int, tuple[Any, Expression]] = {}

    def read(
        self, term: Any, path: Path, *, takes_keywords: bool = False
    ) -> Expression | None:
        """Return the expression of a term.

        Args:
            term: The term.
            path: Its place in the document.
            takes_keywords: Whether a name that means nothing is a keyword, which
                documents write without its colon: so in the return value.

        Returns:
            The expression, or None after noting a problem.
        """
        self._takes_keywords = takes_keywords
        try:
            return self._run(term, path)
        except _Unreadable:
            return None

    def read_value(self, term: Any, path: Path) -> Expression | None:
        """Return the expression of what is observed; a bare name may be a keyword."""
        if not isinstance(term, str):
            return self.read(term, path)
        try:
            return self.name(term, {}, path, keyword=True)
        except _Unreadable:
            return None

    def note(self, path: Path, what: str, expected: str = "", got: str = "") -> None:
        """Note a problem at a place in the document."""
        where = self.where(path)
        if (what, where) not in self._reported:
            self._reported.add((what, where))
            self.problems.append(Problem(where, what, expected, got))

    def refuse(
        self, path: Path, what: str, expected: str = "", got: str = ""
    ) -> Exception:
        """Note a problem; return what a form raises to give up its term."""
        self.note(path, what, expected, got)
        return _Unreadable(what)

    def where(self, path: Path) -> str:
        """Return a place in the document as text."""
        return f"{self._source}: {json_path(keys_of(path))}"

    def _run(self, term: Any, path: Path) -> Expression:
        """Drive the generators; return the expression of `term`."""
        self._root, self._call_depth = path, 0
        if not isinstance(term, list):
            return self.atom(term, {}, path)
        stack: list[tuple[Step, Any]] = [(self._read_array(self, term, {}, path), None)]
        answer: Expression | None = None
        while True:
            step, owner = stack[-1]
            try:
                asked, scope, place = (
                    next(step) if answer is None else step.send(answer)
                )
            except StopIteration as stop:
                stack.pop()
                answer = stop.value
                if owner is not None:
                    self._known[id(owner)] = (owner, answer)
                if not stack:
                    return stop.value  # type: ignore[no-any-return]
                continue
            self.steps += 1
            if self.steps > STEP_LIMIT:
                raise self.refuse(
                    path, "the document is too long", f"at most {STEP_LIMIT} terms"
                )
            if not isinstance(asked, list):
                answer = self.atom(asked, scope, place)
                continue
            is_closed = not scope and not self._takes_keywords
            known = self._known.get(id(asked)) if is_closed else None
            answer = None if known is None else known[1]
            if answer is None:
                step = self._read_array(self, asked, scope, place)
                stack.append((step, asked if is_closed else None))

    def atom(self, term: Any, scope: Scope, path: Path) -> Expression:
        """Return the expression of a term that is not an array."""
        if isinstance(term, str):
            return self.name(term, scope, path)
        if isinstance(term, dict):
            raise self.refuse(path, "an object is not a term", '["hash-map", ...]')
        return self.table.constant(term)

    def name(
        self, name: str, scope: Scope, path: Path, *, keyword: bool = False
    ) -> Expression:
        """Return what a bare name stands for, a keyword if that may be and no else."""
        if len(name) > 1 and name[0] == name[-1] == '"':
            return self.table.constant(name[1:-1])
        bound = scope.get(name)
        if isinstance(bound, str):
            raise self.refuse(path, f"the function {bound} is not a value here")
        if bound is not None:
            return bound
        if name in self.vertices:
            return self.table.reference(name)
        if name in _CONSTANTS:
            return self.table.constant(_CONSTANTS[name])
        known = self._is_function(name)
        if keyword or (self._takes_keywords and not known):
            return self.table.constant(Keyword(name.removeprefix(":")))
        raise self.refuse(
            path,
            f"the function {name} is not a value here"
            if known
            else f"unknown name {name}",
            "a number" if known else "a node, a number or a call",
        )

    def function_name(self, term: Any, scope: Scope) -> str | None:
        """Return the function that a bare name stands for, if it stands for one."""
        if not isinstance(term, str):
            return None
        bound = scope.get(term)
        if bound is not None:
            return bound if isinstance(bound, str) else None
        return term if term not in self.vertices and self._is_function(term) else None

    def _is_function(self, name: str) -> bool:
        return name in PRIMITIVES or name in FAMILIES or name in self.functions

    def argument(
        self, term: Any, scope: Scope, path: Path
    ) -> Generator[tuple[Any, Scope, Path], Expression, Expression | str]:
        """Return what a local name is bound to: an expression, or a function's name."""
        function = self.function_name(term, scope)
        return function if function is not None else (yield term, scope, path)

    def unroll(self, count: int) -> None:
        """Count inlined calls and turns of loops, and refuse too many."""
        self._unrolled += count
        if self._unrolled > UNROLL_LIMIT:
            raise self.refuse(
                self._root,
                "the functions and loops of the document do not end",
                f"at most {UNROLL_LIMIT} calls and turns",
                "more",
            )

    def inside(
        self, function: str, body: Any, scope: Mapping[str, Expression | str]
    ) -> Step:
        """Read the body of a function of the document, one call deeper."""
        if self._call_depth >= CALL_DEPTH_LIMIT:
            raise self.refuse(
                self._root,
                f"the calls of {function} do not end",
                f"at most {CALL_DEPTH_LIMIT} calls inside one another",
                "more",
            )
        self._call_depth += 1
        result = yield body, scope, linked(0, function, 2)
        self._call_depth -= 1
        return result

"""This file keeps what an analysis has found so far, and where it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.primitives import PRIMITIVES
from .desugar import describe
from .drawn_shapes import drawn_shape
from .forms import Compound, Form, Span, head_name
from .meaning import Limits, Variable
from .prelude import prelude
from .recursion import Recursive
from .shared_parts import written_size
from .source import Source
from .substitution import Binding, Scope
from .terms import NodeTerm, UserFunction, is_constant
from .written_constants import written

__all__ = ["Analyser", "Handler", "HigherOrder", "Place"]

Handler = Callable[["Analyser", Compound], Recursive[Any]]
"""Evaluates a special form."""

HigherOrder = Callable[["Analyser", tuple[Any, ...], Compound], Recursive[Any]]
"""Evaluates a call of a function that calls functions, on its arguments' values."""


@dataclass(slots=True)
class Place:
    """What the place of evaluation decides.

    Attributes:
        scope: The names that can be seen.
        guard: The condition under which the place is reached: True or a term.
        guards: Random conditions around it.
        depth: Calls around it.
        is_simplified: Whether Daphne simplifies the form before it analyses it.
        is_prelude: Whether the form is the prelude's, which sees its own functions.
    """

    scope: Scope
    guard: Any = True
    guards: int = 0
    depth: int = 0
    is_simplified: bool = False
    is_prelude: bool = False


@dataclass(slots=True)
class Analyser:
    """One analysis under way.

    Attributes:
        source: The program's text, for messages.
        data: Values of names that the program uses freely.
        limits: How far the program may be unrolled.
        reserved: Names that no random variable may have.
        special: The forms that are no calls, by head.
        higher_order: The functions that call functions, by name.
        functions: The program's functions so far.
        variables: Its random variables so far.
        by_name: The same by name.
        count: How many numbers were drawn for names.
        steps: How many forms were evaluated.
        total_size: How much the document will write.
        not_finite: Where a constant became infinite or no number, if one did.
        written: What `written` returned.
        place: Where the analysis is.
    """

    source: Source
    data: Mapping[str, Any]
    limits: Limits
    reserved: frozenset[str]
    special: Mapping[str, Handler]
    higher_order: Mapping[str, HigherOrder]
    functions: dict[str, UserFunction] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    by_name: dict[str, Variable] = field(default_factory=dict)
    count: int = 0
    steps: int = 0
    total_size: int = 0
    not_finite: Span | None = None
    written: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.fresh_place()

    def fresh_place(self) -> Place:
        """Return the place at the start of a form or a function."""
        names = {name: Binding(value) for name, value in self.data.items()}
        return Place(Scope(names))

    def forget(self) -> None:
        """Forget the variables of earlier forms; functions and numbers stay."""
        self.variables = []
        self.by_name = {}
        self.total_size = 0
        self.place = self.fresh_place()

    def function(self, name: str) -> UserFunction | None:
        """Return the function of the program or the prelude that a name stands for."""
        if name in self.functions and not self.place.is_prelude:
            return self.functions[name]
        if name in PRIMITIVES or name in DISTRIBUTIONS or name in self.higher_order:
            return None
        return None if name in self.special else prelude().get(name)

    def known_names(self) -> frozenset[str]:
        """Return every name that means something at this place."""
        return self.place.scope.names().union(
            PRIMITIVES,
            DISTRIBUTIONS,
            self.higher_order,
            self.special,
            prelude(),
            self.functions,
        )

    def error(
        self, form: Form, what: str, expected: str = "", got: str = ""
    ) -> Exception:
        """Return a compile error at `form`."""
        return self.source.compile_error(
            form.span, what, expected, got or describe(form)
        )

    def check_parts(self, form: Compound, least: int, most: int, usage: str) -> None:
        """Raise unless a form has so many parts behind its name."""
        count = len(form.items) - 1
        if not least <= count <= most:
            what = f"{head_name(form)} has the wrong number of parts"
            raise self.error(form, what, usage, f"{count} parts")

    def count_steps(self, form: Form, steps: int = 1) -> None:
        """Count evaluated forms, and refuse too many."""
        self.steps += steps
        if self.steps > self.limits.steps:
            raise self.error(
                form,
                "the program does not end at compile time",
                f"at most {self.limits.steps} steps",
                "more",
            )

    def bind(self, name: str, value: Any) -> tuple[str, Binding | None]:
        """Let `name` stand for `value`; the result undoes it (`Scope.leave`)."""
        place = self.place
        is_late = place.is_simplified and not is_constant(value)
        if isinstance(value, NodeTerm):
            self.label(value, name)
        bound = Binding(written(value, self.written), is_late)
        return name, place.scope.enter(name, bound)

    def label(self, node: NodeTerm, name: str) -> None:
        """Call a variable by the program's name, unless it has one."""
        variable = self.by_name[node.name]
        if not variable.label:
            variable.label = name

    def fresh(self, stem: str) -> str:
        """Return `stem` with the next number, skipping names that are taken."""
        while True:
            name = f"{stem}{self.count}"
            self.count += 1
            if name not in self.by_name and name not in self.reserved:
                return name

    def add(self, variable: Variable) -> NodeTerm:
        """Keep a variable, and return the value that stands for it."""
        for part in variable.kept or (variable.distribution,):
            self.check_size(part, variable.span)
        self.variables.append(variable)
        self.by_name[variable.name] = variable
        return NodeTerm(variable.name, shape=drawn_shape(variable.distribution))

    def check_size(self, value: Any, span: Span) -> None:
        """Count what the document will write, and refuse too much of it."""
        self.total_size += written_size(value)
        if self.total_size > self.limits.size:
            raise self.source.compile_error(
                span,
                "the document would be too large",
                f"at most {self.limits.size} parts",
                "more (the document writes a value at every place of its name, but one "
                "that is sampled only once)",
            )

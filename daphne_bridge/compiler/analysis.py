"""This file turns forms into random variables and the calls that join them.

The analysis walks a form once, in the order in which Clojure would evaluate it, and
carries what Daphne's rules carry: the functions (rho), the guard, that is the condition
under which the place is reached (phi), and the random variables met so far.

    sample d     a new latent with the distribution d, whatever the guard
    observe d y  a new observed variable; it counts only where the guard holds
    (if c t e)   a constant c picks one branch; a random c keeps both, under the guards
                 (and guard c) and (and guard (not c))
    (f a ...)    the body of f with its parameters bound to the values of a ...

A value is computed once and shared, so a name bound to a sample is one variable however
often it is used. Names follow Daphne: the site's name or `sample`, `observe`, and a
number from one counter.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 3.1, https://arxiv.org/abs/1809.10756
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ..families import FAMILIES
from ..primitives import (
    HOST_CONSTANTS,
    PRIMITIVES,
    HashMap,
    Keyword,
    PrimitiveError,
    Seq,
    format_double,
    truthy,
)
from .desugar import bindings, describe, unroll_limit
from .distributions import check_observation, check_parameters, is_distribution
from .forms import Compound, Form, Literal, Span, Symbol, head_name, symbols
from .partial_evaluation import NUMERIC, forced, partial_evaluation
from .reader import Source
from .recursion import Recursive, run
from .substitution import Binding, Scope
from .symbolic_simplify import elements
from .terms import (
    UNKNOWN,
    CallTerm,
    FunctionTerm,
    MapTerm,
    NodeTerm,
    SequenceTerm,
    UserFunction,
    hash_map,
    is_constant,
    sequence,
    settled,
    size,
    written,
)

__all__ = ["Analysis", "Limits", "Variable", "analyse"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a program may be unrolled before it is refused.

    Attributes:
        steps: Forms that are evaluated, counting every repetition.
        depth: Calls of functions inside one another.
        guards: Random conditions inside one another.
        size: Numbers, names and brackets written in the document.
    """

    steps: int = 5_000_000
    depth: int = 30_000
    guards: int = 500
    size: int = 20_000_000


@dataclass(slots=True)
class Variable:
    """A random variable.

    Attributes:
        name: Its name in the document.
        label: The name that the program binds it to; empty if it binds none.
        distribution: What it is drawn from.
        span: Where its site stands.
        guard: Where it counts: True or a term.
        is_observed: Whether it has a value.
        observation: That value.
        site: The name that its site gives; empty if it gives none.
    """

    name: str
    label: str
    distribution: Any
    span: Span
    guard: Any = True
    is_observed: bool = False
    observation: Any = None
    site: str = ""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a program means.

    Attributes:
        functions: The program's functions, in order of definition.
        variables: Its random variables, in order of evaluation.
        result: The value of its last form.
        span: Where the last form stands.
        count: How many numbers were drawn for names.
        not_finite: Where a constant became infinite or no number, if one did.
        has_functions: Whether the document lists the functions (see `document`).
    """

    functions: tuple[UserFunction, ...]
    variables: tuple[Variable, ...]
    result: Any
    span: Span
    count: int
    not_finite: Span | None
    has_functions: bool


def analyse(
    forms: tuple[Form, ...],
    source: Source,
    data: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Analysis:
    """Return what the program `forms` means.

    Args:
        forms: The program.
        source: Its text, for messages.
        data: Values of names that the program uses freely.
        limits: How far it may be unrolled.

    Raises:
        CompileError: The program does not describe a graphical model.
    """
    if not forms:
        raise source.compile_error(
            Span(1, 1), "the program is empty", "at least one form", "no form"
        )
    analyser = _Analyser(source, data or {}, limits or Limits(), _reserved(forms))
    result: Any = None
    for form in forms:
        if head_name(form) == "defn" and isinstance(form, Compound):
            result = analyser.define(form)
            analyser.forget()
        else:
            analyser.forget()
            result = run(analyser.value(form))
    analyser.check_size(result, forms[-1].span)
    return Analysis(
        tuple(analyser.functions.values()),
        tuple(analyser.variables),
        result,
        forms[-1].span,
        analyser.count,
        analyser.not_finite,
        not _loses_functions(forms[-1], analyser.functions, result),
    )


def _reserved(forms: tuple[Form, ...]) -> frozenset[str]:
    """Return the names that no random variable may have in the document."""
    names: set[str] = set()
    work = list(forms)
    while work:
        match work.pop():
            case Symbol(name=name):
                names.add(name)
            case Literal(value=Keyword() as value):
                names.add(str.__str__(value))
            case Compound(items=items):
                work.extend(items)
    return frozenset(names)


def _loses_functions(
    form: Form, functions: Mapping[str, UserFunction], result: Any
) -> bool:
    """Return whether Daphne writes no functions after this last form.

    It carries them from part to part of a form, and loses them where there is none.
    """
    is_let = head_name(form) == "let"
    while head_name(form) == "let" and isinstance(form, Compound):
        form = form.items[-1]
    if is_let and isinstance(result, (tuple, HashMap)) and not result:
        return True
    if not isinstance(form, Compound):
        return False
    if form.kind != "list":
        return not form.items
    return len(form.items) == 1 and head_name(form) in functions


Handler = Callable[["_Analyser", Compound], Recursive[Any]]


@dataclass(slots=True)
class _State:
    """What the place of evaluation decides."""

    scope: Scope
    guard: Any = True
    guards: int = 0
    depth: int = 0
    is_simplified: bool = False


@dataclass(slots=True)
class _Analyser:
    """One analysis under way: the functions, the variables, and the place."""

    source: Source
    data: Mapping[str, Any]
    limits: Limits
    reserved: frozenset[str]
    functions: dict[str, UserFunction] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    by_name: dict[str, Variable] = field(default_factory=dict)
    count: int = 0
    steps: int = 0
    total_size: int = 0
    not_finite: Span | None = None
    written: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    state: _State = field(init=False)

    def __post_init__(self) -> None:
        self.state = self._fresh_state()

    def _fresh_state(self) -> _State:
        names = {name: Binding(value) for name, value in self.data.items()}
        return _State(Scope(names))

    def forget(self) -> None:
        """Forget the variables of earlier forms; functions and numbers stay."""
        self.variables = []
        self.by_name = {}
        self.total_size = 0
        self.state = self._fresh_state()

    # -------------------------------------------------------------- functions

    def define(self, form: Compound) -> Any:
        """Keep a function definition, and return the function."""
        items = form.items
        if len(items) > 2 and isinstance(items[2], Literal):
            items = (*items[:2], *items[3:])  # a documentation string
        shape = "(defn name [parameter ...] body)"
        if len(items) < 2 or not isinstance(items[1], Symbol):
            raise self.error(form, "defn has no name", shape)
        name = items[1].name
        parameters = items[2] if len(items) > 2 else None
        if not isinstance(parameters, Compound) or parameters.kind != "vector":
            raise self.error(form, f"{name} has no parameter vector", shape)
        names = []
        for parameter in parameters.items:
            if not isinstance(parameter, Symbol):
                raise self.error(
                    parameter,
                    f"{name} has a parameter that is no name",
                    "a symbol",
                    describe(parameter),
                )
            if parameter.name == "&":
                raise self.error(
                    parameter, "functions have no rest parameter", "a plain name", "&"
                )
            names.append(parameter)
        if len(items) < 4:
            raise self.error(form, f"the function {name} has no body", shape)
        if name in _SPECIAL:
            raise self.error(
                items[1], f"{name} cannot be redefined", "another name", name
            )
        function = UserFunction(name, tuple(names), Compound("list", items, form.span))
        self.functions.pop(name, None)
        self.functions[name] = function
        return FunctionTerm(name, function, form.span)

    def error(
        self, form: Form, what: str, expected: str = "", got: str = ""
    ) -> Exception:
        """Return a compile error at `form`."""
        return self.source.compile_error(
            form.span, what, expected, got or describe(form)
        )

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

    # -------------------------------------------------------------- evaluation

    def value(self, form: Form) -> Recursive[Any]:
        """Return the value of any form."""
        self.count_steps(form)
        if not isinstance(form, Compound):
            return self.atom(form)
        if form.kind == "vector":
            return sequence((yield self.values(form.items)))
        if form.kind == "map":
            keys = yield self.values(form.items[::2])
            values = yield self.values(form.items[1::2])
            return self._hash_map(form, list(zip(keys, values, strict=True)))
        if not form.items:
            raise self.error(
                form, "the empty list calls nothing", "(function argument ...)", "()"
            )
        head = form.items[0]
        if isinstance(head, Symbol):
            name = head.name
            if self.state.scope.look_up(name) is None and name not in self.functions:
                handler = _SPECIAL.get(name)
                if handler is not None:
                    return (yield handler(self, form))
            elif name in ("sample", "observe"):
                raise self.error(
                    head,
                    f"{name} is bound to a value here",
                    f"another name than {name}",
                )
        elif isinstance(head, Literal) and not isinstance(head.value, Keyword):
            raise self.error(head, "this is no function", "a function", describe(head))
        return (yield self.application(form))

    def _hash_map(self, form: Form, pairs: list[tuple[Any, Any]]) -> Any:
        try:
            return hash_map(pairs)
        except PrimitiveError as problem:
            raise self.error(form, str(problem), "small keys") from None

    def values(self, forms: tuple[Form, ...]) -> Recursive[tuple[Any, ...]]:
        """Return the values of several forms, in order."""
        results = []
        for form in forms:
            if isinstance(form, Compound):
                results.append((yield self.value(form)))
            else:
                results.append(self.atom(form))
        return tuple(results)

    def atom(self, form: Literal | Symbol) -> Any:
        """Return the value of a literal or of a name."""
        if isinstance(form, Literal):
            return form.value
        name = form.name
        binding = self.state.scope.look_up(name)
        if binding is not None:
            return binding.value
        if name in self.functions:
            return FunctionTerm(name, self.functions[name], form.span)
        if name in HOST_CONSTANTS:
            return HOST_CONSTANTS[name]
        if name in PRIMITIVES or name in FAMILIES or name in _HIGHER_ORDER:
            return FunctionTerm(name, None, form.span)
        if name in _SPECIAL:
            raise self.error(
                form, f"{name} stands only first in a list", f"({name} ...)", name
            )
        raise self.error(
            form,
            f"the name {name} is not defined",
            "a name bound by let, foreach, defn or the data",
            name,
        )

    def body(self, forms: tuple[Form, ...]) -> Recursive[Any]:
        """Return the value of the last of several forms, nil if there is none."""
        results = yield self.values(forms)
        return results[-1] if results else None

    def bind(self, name: str, value: Any) -> tuple[str, Binding | None]:
        """Let `name` stand for `value`; the result undoes it (`Scope.leave`)."""
        state = self.state
        is_late = state.is_simplified and not is_constant(value)
        if isinstance(value, NodeTerm):
            self.label(value, name)
        bound = Binding(written(value, self.written), is_late)
        return name, state.scope.enter(name, bound)

    def label(self, node: NodeTerm, name: str) -> None:
        """Call a variable by the program's name, unless it has one."""
        variable = self.by_name[node.name]
        if not variable.label:
            variable.label = name

    # -------------------------------------------------------------- calls

    def application(self, form: Compound) -> Recursive[Any]:
        """Return the value of a function call."""
        head, *arguments = form.items
        if isinstance(head, Symbol):
            function = self.function_named(head)
        elif isinstance(head, Literal):
            function = head.value
        else:
            function = yield self.value(head)
        values = yield self.values(tuple(arguments))
        is_core = isinstance(function, FunctionTerm) and function.function is None
        if is_core and not self.state.is_simplified:
            if not values:
                raise self.error(
                    form,
                    f"{function.name} is called without arguments",
                    "arguments, or a constant such as [] or 0",
                )
            values = tuple(written(v, self.written) for v in values)
        if is_core:
            self._refuse_late_names(function.name, form, values)
        return (yield self.call(function, values, form))

    def function_named(self, head: Symbol) -> Any:
        """Return the function that a call's head names."""
        name = head.name
        is_known = (
            self.state.scope.look_up(name) is not None
            or name in self.functions
            or name in PRIMITIVES
            or name in FAMILIES
            or name in _HIGHER_ORDER
        )
        if is_known:
            return self.atom(head)
        raise self.error(
            head,
            f"there is no function or distribution {name}",
            "one of the language or of the program",
            name,
        )

    def call(
        self, function: Any, values: tuple[Any, ...], form: Compound
    ) -> Recursive[Any]:
        """Return the value of `function` applied to values."""
        if not isinstance(function, FunctionTerm):
            return self._look_up(function, values, form)
        if function.function is not None:
            return (yield self.inlined(function.function, values, form))
        if function.name in _HIGHER_ORDER:
            return (yield _HIGHER_ORDER[function.name](self, values, form))
        if weight := _weight(function.name, values):
            self.count_steps(form, weight)
        try:
            if function.name in FAMILIES:
                check_parameters(function.name, values)
                return CallTerm(function.name, values)
            result = partial_evaluation(function.name, values)
        except PrimitiveError as problem:
            raise self._no_value(form, function.name, values, problem) from None
        if isinstance(result, float) and not isfinite(result):
            self.not_finite = form.span
        return result

    def _no_value(
        self, form: Form, name: str, values: tuple[Any, ...], problem: PrimitiveError
    ) -> Exception:
        """Return the error for a call that has no value."""
        shown = " ".join(_shown(x) for x in values[:6])
        more = " ..." if len(values) > 6 else ""
        called = f"({name} {shown}{more})" if values else f"({name})"
        return self.error(form, str(problem), f"a call of {name} with a value", called)

    def _look_up(self, function: Any, values: tuple[Any, ...], form: Compound) -> Any:
        """Return the value of a keyword, map or vector used as a function."""
        try:
            if isinstance(function, Keyword) and 1 <= len(values) <= 2:
                return partial_evaluation("get", (values[0], function, *values[1:]))
            if isinstance(function, (HashMap, MapTerm)) and 1 <= len(values) <= 2:
                return partial_evaluation("get", (function, *values))
            if elements(function) is not None and len(values) == 1:
                return partial_evaluation("nth", (function, *values))
        except PrimitiveError as problem:
            raise self._no_value(form, "get", values, problem) from None
        raise self.error(
            form.items[0], "this is no function", "a function", _described(function)
        )

    def inlined(
        self, function: UserFunction, values: tuple[Any, ...], form: Compound
    ) -> Recursive[Any]:
        """Return the value of a function's body with its parameters bound."""
        if len(values) != len(function.parameters):
            raise self.error(
                form,
                f"{function.name} is called with the wrong number of arguments",
                str(len(function.parameters)),
                str(len(values)),
            )
        outer = self.state
        if outer.depth >= self.limits.depth:
            raise self.error(
                form,
                f"the calls of {function.name} do not end at compile time",
                f"at most {self.limits.depth} calls inside one another",
                "more",
            )
        self.state = inner = self._fresh_state()
        inner.guard, inner.guards = outer.guard, outer.guards
        inner.depth, inner.is_simplified = outer.depth + 1, True
        for parameter, value in zip(function.parameters, values, strict=True):
            self.bind(parameter.name, value)
        if len(function.bodies) == 1:
            result = yield self.value(function.bodies[0])
        else:
            result = yield self.body(function.bodies)
        self.state = outer
        return forced(result) if values and is_constant(values[-1]) else result

    def _refuse_late_names(
        self, name: str, form: Compound, values: tuple[Any, ...]
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
            and (binding := self.state.scope.look_up(symbol.name)) is not None
            and binding.is_late
        ]
        if not late:
            return
        clashes = [s for s in late if s.name in PRIMITIVES and PRIMITIVES[s.name].folds]
        others = sum(not is_constant(v) for v in values) - len(late)
        if clashes and len(clashes) == len(late) and not others:
            clash = clashes[0]
            raise self.error(
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
            raise self.error(
                late[0],
                "concat cannot join a written-out vector to a random one by its name",
                "names for all vectors, or all of them written out",
                late[0].name,
            )

    # -------------------------------------------------------------- special forms

    def let(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(let [name form ...] body ...)`."""
        if len(form.items) < 2:
            raise self.error(form, "let has no binding vector", "(let [name form] ...)")
        self._require_body(form, 2)
        pairs = bindings(form.items[1], self.source)
        state = self.state
        before = state.is_simplified
        entered = []
        value: Any = UNKNOWN
        for name, bound in pairs:
            value = (
                (yield self.value(bound))
                if isinstance(bound, Compound)
                else self.atom(bound)
            )
            self._label_parts(name.name, bound, value)
            entered.append(self.bind(name.name, value))
            state.is_simplified = True
        state.is_simplified = True
        bodies = form.items[2:]
        result = yield self.body(bodies)
        state.is_simplified = before
        state.scope.leave(reversed(entered))
        is_closed = value is not UNKNOWN and is_constant(value) and len(bodies) == 1
        is_nested = before or len(pairs) > 1
        return forced(result) if is_closed and is_nested else result

    def _require_body(self, form: Compound, start: int) -> None:
        """Refuse a `let` or `foreach` that has a binding vector only."""
        if len(form.items) == start:
            raise self.error(
                form, f"{head_name(form)} has no body", "a form after the names"
            )

    def _label_parts(self, name: str, bound: Form, value: Any) -> None:
        """Call the variables made by a written vector or a foreach by its name."""
        if not isinstance(bound, Compound) or not isinstance(value, SequenceTerm):
            return
        if bound.kind != "vector" and head_name(bound) != "foreach":
            return
        work = [value]
        while work:
            for item in work.pop().items:
                if isinstance(item, NodeTerm):
                    self.label(item, name)
                elif isinstance(item, SequenceTerm):
                    work.append(item)

    def conditional(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(if condition then else)`."""
        if not 3 <= len(form.items) <= 4:
            raise self.error(
                form,
                "if has the wrong number of parts",
                "(if condition then else)",
                f"{len(form.items) - 1} parts",
            )
        otherwise = form.items[3] if len(form.items) == 4 else Literal(None, form.span)
        condition = yield self.value(form.items[1])
        return (yield self.branches(condition, form.items[2], otherwise, form))

    def branches(
        self, condition: Any, then: Form, otherwise: Form, form: Form
    ) -> Recursive[Any]:
        """Return `then` or `otherwise` by a constant condition, else a call to `if`."""
        constant = _decided(condition)
        if constant is not UNKNOWN:
            return (yield self.value(then if truthy(constant) else otherwise))
        if is_distribution(condition):
            raise self.error(
                form, "a distribution is no condition", "a value", "a distribution"
            )
        state = self.state
        if state.guards >= self.limits.guards:
            raise self.error(
                form,
                "a random condition decides how deep the program goes",
                f"at most {self.limits.guards} random conditions inside one another",
                "more",
            )
        guard = state.guard
        state.guards += 1
        state.guard = CallTerm("and", (guard, condition))
        yes = yield self.value(then)
        state.guard = CallTerm("and", (guard, CallTerm("not", (condition,))))
        no = yield self.value(otherwise)
        state.guard = guard
        state.guards -= 1
        return CallTerm("if", (condition, yes, no))

    def sample(self, form: Compound) -> Recursive[Any]:
        """Return a new latent: `(sample d)` or `(sample name d)`."""
        if not 2 <= len(form.items) <= 3:
            raise self.error(
                form,
                "sample has the wrong number of parts",
                "(sample distribution) or (sample name distribution)",
                f"{len(form.items) - 1} parts",
            )
        site = self.site_name(form, 3)
        distribution = yield self._simplified(form.items[-1])
        self._check_distribution(distribution, form.items[-1], "sample")
        name = self.fresh(site or "sample")
        return self.add(Variable(name, "", distribution, form.span, site=site))

    def observe(self, form: Compound) -> Recursive[Any]:
        """Return a new observed variable: `(observe d y)` or `(observe name d y)`."""
        if not 3 <= len(form.items) <= 4:
            raise self.error(
                form,
                "observe has the wrong number of parts",
                "(observe distribution value) or (observe name distribution value)",
                f"{len(form.items) - 1} parts",
            )
        site = self.site_name(form, 4)
        distribution = yield self._simplified(form.items[-2])
        self._check_distribution(distribution, form.items[-2], "observe")
        observation = yield self._simplified(form.items[-1])
        self._check_observation(observation, form.items[-1])
        try:
            check_observation(distribution, observation)
        except PrimitiveError as problem:
            expected = f"a value that ({distribution.head} ...) can take"
            raise self.error(
                form.items[-1], str(problem), expected, _described(observation)
            ) from None
        variable = Variable(
            self.fresh(site or "observe"),
            "",
            distribution,
            form.span,
            self.state.guard,
            is_observed=True,
            observation=observation,
            site=site,
        )
        self.check_size(variable.guard, form.span)
        self.check_size(observation, form.span)
        return self.add(variable)

    def _simplified(self, form: Form) -> Recursive[Any]:
        state = self.state
        before, state.is_simplified = state.is_simplified, True
        value = yield self.value(form)
        state.is_simplified = before
        return value

    def site_name(self, form: Compound, length: int) -> str:
        """Return the name that a site gives its variable; empty if it gives none."""
        if len(form.items) < length:
            return ""
        given = form.items[1]
        value: Any = given.value if isinstance(given, Literal) else None
        if isinstance(given, Symbol):
            binding = self.state.scope.look_up(given.name)
            if binding is None or not isinstance(binding.value, str):
                return given.name
            value = binding.value
        if isinstance(value, Keyword):
            return f":{str.__str__(value)}"
        if isinstance(value, str) and value:
            return value
        raise self.error(
            given,
            f"{head_name(form)} has a name that is none",
            "a string, symbol or keyword",
            describe(given),
        )

    def _check_distribution(self, value: Any, form: Form, head: str) -> None:
        if is_distribution(value):
            return
        raise self.error(
            form,
            f"{head} needs a distribution",
            "a call such as (normal 0 1)",
            _described(value),
        )

    def _check_observation(self, value: Any, form: Form) -> None:
        work = [value]
        while work:
            item = work.pop()
            if isinstance(item, NodeTerm):
                raise self.error(
                    form,
                    "an observed value is known before the program runs",
                    "a constant",
                    f"a value that depends on the random variable {item.name}",
                )
            if isinstance(item, FunctionTerm) or is_distribution(item):
                raise self.error(
                    form,
                    "an observed value is a value",
                    "a constant",
                    _described(item),
                )
            work.extend(_parts(item))

    def fresh(self, stem: str) -> str:
        """Return `stem` with the next number, skipping names that are taken."""
        while True:
            name = f"{stem}{self.count}"
            self.count += 1
            if name not in self.by_name and name not in self.reserved:
                return name

    def add(self, variable: Variable) -> NodeTerm:
        """Keep a variable, and return the value that stands for it."""
        self.check_size(variable.distribution, variable.span)
        self.variables.append(variable)
        self.by_name[variable.name] = variable
        return NodeTerm(variable.name)

    def check_size(self, value: Any, span: Span) -> None:
        """Count what the document will write, and refuse too much of it."""
        self.total_size += size(value)
        if self.total_size > self.limits.size:
            raise self.source.compile_error(
                span,
                "the document would be too large",
                f"at most {self.limits.size} parts",
                "more (the document copies a shared value to every place of it)",
            )

    def loop(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(loop count accumulator function argument ...)`."""
        if len(form.items) < 4:
            raise self.error(
                form,
                "loop has too few parts",
                "(loop count accumulator function argument ...)",
                f"{len(form.items) - 1} parts",
            )
        _, count_form, start, head, *rest = form.items
        turns = yield self._turns(count_form, "loop")
        arguments = yield self.values(tuple(rest))
        (accumulator,) = yield self.values((start,))
        function = (
            self.function_named(head)
            if isinstance(head, Symbol)
            else (yield self.value(head))
        )
        for turn in range(turns):
            self.count_steps(form)
            accumulator = yield self.call(
                function, (turn, accumulator, *arguments), form
            )
        return accumulator

    def foreach(self, form: Compound) -> Recursive[Any]:
        """Return the vector `(foreach count [name collection ...] body ...)`."""
        if len(form.items) < 3:
            raise self.error(
                form, "foreach has no binding vector", "(foreach count [...] body ...)"
            )
        turns = yield self._turns(form.items[1], "foreach")
        pairs = bindings(form.items[2], self.source, "foreach")
        self._require_body(form, 3)
        if turns == 0:
            return ()
        collections = yield self.values(tuple(bound for _, bound in pairs))
        bodies = form.items[3:]
        state = self.state
        before, state.is_simplified = state.is_simplified, True
        results = []
        for turn in range(turns):
            self.count_steps(form)
            entered = []
            value: Any = UNKNOWN
            for (name, bound), collection in zip(pairs, collections, strict=True):
                value = self._element(collection, turn, turns, bound)
                entered.append((name.name, self._enter_quietly(name.name, value)))
            result = yield self.body(bodies)
            state.scope.leave(reversed(entered))
            is_closed = value is not UNKNOWN and is_constant(value)
            is_forced = is_closed and len(bodies) == 1
            results.append(forced(result) if is_forced else result)
        state.is_simplified = before
        return sequence(tuple(results))

    def _enter_quietly(self, name: str, value: Any) -> Binding | None:
        """Bind without labelling: an element keeps the collection's label."""
        return self.state.scope.enter(name, Binding(value, not is_constant(value)))

    def _turns(self, form: Form, what: str) -> Recursive[int]:
        value = settled((yield self.value(form)))
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(
                form,
                f"{what} runs a number of times that is known at compile time",
                "an integer",
                "a random value" if value is UNKNOWN else _described(value),
            )
        if value < 0 and what == "foreach":
            return 0
        if error := unroll_limit(value, form.span, self.source):
            raise error
        return int(value)

    def _element(self, collection: Any, index: int, turns: int, form: Form) -> Any:
        items = elements(collection)
        if items is not None:
            if index < len(items):
                return items[index]
            raise self.error(
                form,
                "foreach takes more elements than there are",
                f"at least {turns}",
                str(len(items)),
            )
        if isinstance(collection, (MapTerm, HashMap, NodeTerm, CallTerm)):
            if is_distribution(collection):
                raise self.error(
                    form, "foreach goes over a collection", "a vector", "a distribution"
                )
            return partial_evaluation("get", (collection, index))
        raise self.error(
            form, "foreach goes over a collection", "a vector", _described(collection)
        )

    # -------------------------------------------------------------- derived forms

    def do(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(do body ...)`."""
        return (yield self.body(form.items[1:]))

    def when(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(when condition body ...)` or `when-not`."""
        if len(form.items) < 2:
            raise self.error(
                form, f"{head_name(form)} has no condition", "(when condition body ...)"
            )
        body = _list(form.span, Symbol("do", form.span), *form.items[2:])
        nothing = Literal(None, form.span)
        condition = yield self.value(form.items[1])
        if head_name(form) == "when":
            return (yield self.branches(condition, body, nothing, form))
        return (yield self.branches(condition, nothing, body, form))

    def if_not(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(if-not condition then else)`."""
        if not 3 <= len(form.items) <= 4:
            raise self.error(
                form,
                "if-not has the wrong number of parts",
                "(if-not condition then else)",
                f"{len(form.items) - 1} parts",
            )
        otherwise = form.items[3] if len(form.items) == 4 else Literal(None, form.span)
        condition = yield self.value(form.items[1])
        return (yield self.branches(condition, otherwise, form.items[2], form))

    def cond(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(cond test value ...)`."""
        clauses = form.items[1:]
        if len(clauses) % 2:
            raise self.error(
                form, "cond has a test without a value", "an even number of forms"
            )
        rest: Form = Literal(None, form.span)
        for test, value in zip(clauses[-2::-2], clauses[::-2], strict=True):
            rest = _list(test.span, Symbol("if", test.span), test, value, rest)
        return (yield self.value(rest))

    def thread(self, form: Compound) -> Recursive[Any]:
        """Return the value of `(-> x (f a) ...)` or `->>`."""
        if len(form.items) < 2:
            raise self.error(
                form, f"{head_name(form)} has nothing to pass on", "(-> value call ...)"
            )
        value = form.items[1]
        is_first = head_name(form) == "->"
        for step in form.items[2:]:
            if isinstance(step, Compound) and step.kind == "list" and step.items:
                head, *rest = step.items
                rest = [value, *rest] if is_first else [*rest, value]
                value = _list(step.span, head, *rest)
            else:
                value = _list(step.span, step, value)
        return (yield self.value(value))

    def quote(self, form: Compound) -> Recursive[Any]:
        """Return a quoted form as data; lists become sequences."""
        if len(form.items) != 2:
            raise self.error(form, "quote takes one form", "(quote form)")
        for symbol in symbols(form.items[1]):
            raise self.error(
                symbol, "a quoted symbol has no value", "constants", symbol.name
            )
        return (yield self._quoted(form.items[1]))

    def _quoted(self, form: Form) -> Recursive[Any]:
        if not isinstance(form, Compound):
            return self.atom(form)
        items = []
        for item in form.items:
            items.append((yield self._quoted(item)))
        if form.kind == "map":
            return self._hash_map(form, list(zip(items[::2], items[1::2], strict=True)))
        return tuple(items) if form.kind == "vector" else Seq(items)

    def nested_definition(self, form: Compound) -> Recursive[Any]:
        """Refuse a `defn` inside another form."""
        raise self.error(
            form, "defn stands at the top of the program only", "let for a local name"
        )
        yield  # a handler is a generator

    def unsupported(self, form: Compound) -> Recursive[Any]:
        """Refuse a form of Clojure that the language does not have."""
        raise self.error(
            form,
            f"{head_name(form)} is not part of the language",
            "let, if, cond, when, foreach, loop, defn or a function",
            head_name(form) or "",
        )
        yield  # a handler is a generator

    # -------------------------------------------------------------- higher order

    def _function(self, value: Any, form: Compound) -> Any:
        is_callable = isinstance(value, (FunctionTerm, Keyword, HashMap, MapTerm))
        if not is_callable:
            raise self.error(
                form,
                "the first argument is no function",
                "a function",
                _described(value),
            )
        return value

    def _known_elements(self, value: Any, form: Compound) -> tuple[Any, ...]:
        if value is None:
            return ()
        if isinstance(value, (HashMap, MapTerm)):
            entries = value if isinstance(value, HashMap) else value.entries
            return tuple(sequence(pair) for pair in entries.pairs())
        items = elements(value)
        if items is None:
            raise self.error(
                form,
                f"{head_name(form)} needs a collection of known length",
                "a vector or sequence",
                _described(value),
            )
        return items

    def _wrong_count(self, form: Compound, shape: str) -> Exception:
        return self.error(
            form, f"{head_name(form)} has the wrong number of arguments", shape
        )

    def map(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return `(map f collection ...)` as a sequence."""
        return sequence((yield self._mapped(values, form)), is_vector=False)

    def mapv(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return `(mapv f collection ...)` as a vector."""
        return sequence((yield self._mapped(values, form)))

    def map_indexed(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return `(map-indexed f collection)` as a sequence."""
        if len(values) != 2:
            raise self._wrong_count(form, "(map-indexed f collection)")
        indices = tuple(range(len(self._known_elements(values[1], form))))
        rows = yield self._mapped((values[0], indices, values[1]), form)
        return sequence(rows, is_vector=False)

    def _mapped(
        self, values: tuple[Any, ...], form: Compound
    ) -> Recursive[tuple[Any, ...]]:
        if len(values) < 2:
            raise self._wrong_count(form, "(map f collection ...)")
        function = self._function(values[0], form)
        columns = [self._known_elements(c, form) for c in values[1:]]
        results = []
        for row in zip(*columns, strict=False):
            self.count_steps(form)
            results.append((yield self.call(function, row, form)))
        return tuple(results)

    def reduce(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return `(reduce f collection)` or `(reduce f start collection)`."""
        if not 2 <= len(values) <= 3:
            raise self._wrong_count(form, "(reduce f start collection)")
        function = self._function(values[0], form)
        items = self._known_elements(values[-1], form)
        if len(values) == 3:
            items = (values[1], *items)
        if not items:
            return (yield self.call(function, (), form))
        result = items[0]
        for item in items[1:]:
            self.count_steps(form)
            result = yield self.call(function, (result, item), form)
        return result

    def apply(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return `(apply f argument ... collection)`."""
        if len(values) < 2:
            raise self._wrong_count(form, "(apply f argument ... collection)")
        function = self._function(values[0], form)
        rest = self._known_elements(values[-1], form)
        return (yield self.call(function, (*values[1:-1], *rest), form))

    def filter(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return the elements that `filter`, `filterv` or `remove` keeps."""
        head = _called(form, values)
        if len(values) != 2:
            raise self._wrong_count(form, f"({head} f collection)")
        items = self._known_elements(values[1], form)
        kept = []
        for item, verdict in zip(
            items, (yield self._verdicts(values, form)), strict=True
        ):
            if truthy(verdict) != (head == "remove"):
                kept.append(item)
        return sequence(tuple(kept), is_vector=head == "filterv")

    def every(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return whether all elements pass; random tests are joined by `and`."""
        if len(values) != 2:
            raise self._wrong_count(form, "(every? f collection)")
        tests = yield self._mapped(values, form)
        return partial_evaluation("and", (True, *tests)) if tests else True

    def some(self, values: tuple[Any, ...], form: Compound) -> Recursive[Any]:
        """Return the first test that is true; random tests are joined by `or`."""
        if len(values) != 2:
            raise self._wrong_count(form, "(some f collection)")
        tests = yield self._mapped(values, form)
        return partial_evaluation("or", tests) if tests else None

    def _verdicts(
        self, values: tuple[Any, ...], form: Compound
    ) -> Recursive[list[Any]]:
        verdicts = [_decided(v) for v in (yield self._mapped(values, form))]
        if any(v is UNKNOWN for v in verdicts):
            raise self.error(
                form,
                "a random test decides how many elements there are",
                "a test that is known at compile time",
            )
        return verdicts


def _weight(name: str, values: tuple[Any, ...]) -> int:
    """Return for how many forms a call counts beside its own: its elements, roughly."""
    weight = 0
    for value in values:
        if isinstance(value, SequenceTerm):
            weight += len(value.items)
        elif isinstance(value, tuple):
            weight += min(size(value), 1 << 21) if name in _DEEP else len(value)
    return weight // _ELEMENTS_PER_STEP


_ELEMENTS_PER_STEP = 32
_DEEP = frozenset({"=", "not=", "flatten", "str", "sort", "distinct", "frequencies"})


def _called(form: Compound, values: tuple[Any, ...]) -> str:
    """Return the name of the higher-order function that a form calls."""
    del values
    return head_name(form) or "filter"


def _decided(condition: Any) -> Any:
    """Return the constant that decides a condition, or UNKNOWN."""
    if isinstance(condition, (SequenceTerm, MapTerm, FunctionTerm)):
        return True
    if isinstance(condition, CallTerm) and isinstance(condition.elements, tuple):
        is_nil = condition.head in ("next", "seq", "not-empty")
        return bool(condition.elements) if is_nil else True
    return settled(condition)


def _shown(value: Any) -> str:
    """Return a short text of a value, for messages."""
    match value:
        case NodeTerm():
            return value.name
        case CallTerm():
            return f"({value.head} ...)"
        case FunctionTerm():
            return value.name
        case SequenceTerm() | tuple():
            return "[...]" if not isinstance(value, tuple) or value else "[]"
        case MapTerm() | HashMap():
            return "{...}"
        case Keyword():
            return f":{str.__str__(value)}"
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value[:40])
        case float():
            return format_double(value)
    return str(value)[:40]


def _parts(value: Any) -> tuple[Any, ...]:
    match value:
        case CallTerm():
            return value.arguments
        case SequenceTerm():
            return value.items
        case MapTerm():
            return tuple(x for pair in value.entries.pairs() for x in pair)
    return ()


def _list(span: Span, *items: Form) -> Compound:
    return Compound("list", items, span)


def _described(value: Any) -> str:
    """Return a few words that say what a value is."""
    match value:
        case NodeTerm():
            return f"the random variable {value.name}"
        case CallTerm():
            kind = "the distribution" if is_distribution(value) else "a value of"
            return f"{kind} ({value.head} ...)"
        case FunctionTerm():
            return f"the function {value.name}"
        case MapTerm() | HashMap():
            return "a map"
        case SequenceTerm() | tuple():
            return "a sequence" if isinstance(value, Seq) else "a vector"
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
    return f"the constant {str(value)[:40]}"


_SPECIAL: Mapping[str, Handler] = {
    "let": _Analyser.let,
    "if": _Analyser.conditional,
    "sample": _Analyser.sample,
    "observe": _Analyser.observe,
    "loop": _Analyser.loop,
    "foreach": _Analyser.foreach,
    "defn": _Analyser.nested_definition,
    "do": _Analyser.do,
    "when": _Analyser.when,
    "when-not": _Analyser.when,
    "if-not": _Analyser.if_not,
    "cond": _Analyser.cond,
    "->": _Analyser.thread,
    "->>": _Analyser.thread,
    "quote": _Analyser.quote,
    "fn": _Analyser.unsupported,
    "def": _Analyser.unsupported,
    "recur": _Analyser.unsupported,
    "case": _Analyser.unsupported,
    "for": _Analyser.unsupported,
    "doseq": _Analyser.unsupported,
    "letfn": _Analyser.unsupported,
}

_HIGHER_ORDER: Mapping[str, Callable[..., Recursive[Any]]] = {
    "map": _Analyser.map,
    "mapv": _Analyser.mapv,
    "map-indexed": _Analyser.map_indexed,
    "reduce": _Analyser.reduce,
    "apply": _Analyser.apply,
    "filter": _Analyser.filter,
    "filterv": _Analyser.filter,
    "remove": _Analyser.filter,
    "every?": _Analyser.every,
    "some": _Analyser.some,
}

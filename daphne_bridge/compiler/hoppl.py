"""This file turns a program into one expression of functions, without lets and loops.

    (let [a 1] b c)   ->  ((fn [a] ((fn [dontcare0] c) b)) 1)
    [a {:k b}]        ->  (vector a (hash-map :k b))
    (defn f [x] (f x)) m
                      ->  ((fn [f] m) (fn [x] (F x F))),  F = (fn [x f] (f x f))

A function is given to itself as its last argument, so that it needs no name to call
itself by. `loop` and `foreach` become calls of such a function, `loop-helper`. The
expression is what evaluators of the higher-order language (HOPPL) take; `addresses.py`
and `continuations.py` transform it further.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 5.2, https://arxiv.org/abs/1809.10756
"""

from collections.abc import Sequence

from .desugar import bindings
from .forms import Compound, Form, Literal, Symbol, head_name, symbols
from .reader import read
from .recursion import Recursive, each, run
from .source import Source

__all__ = ["Fresh", "call", "function", "hoppl"]

_HELPER = """
(defn loop-helper [i c v g] (if (= i c) v (loop-helper (+ i 1) c (g i v) g)))"""


class Fresh:
    """Names with numbers that a program does not have."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self._taken = {symbol.name for form in forms for symbol in symbols(form)}
        self._number = 0

    def __call__(self, stem: str) -> Symbol:
        """Return `stem` with the next number."""
        while True:
            name = f"{stem}{self._number}"
            self._number += 1
            if name not in self._taken:
                return Symbol(name)

    def unless_taken(self, name: str) -> Symbol:
        """Return a name, with a number only if the program has it."""
        return self(name) if name in self._taken else Symbol(name)


def call(*parts: Form) -> Compound:
    """Return a list."""
    return Compound("list", parts)


def function(parameters: Sequence[Form], body: Form) -> Compound:
    """Return `(fn [parameters] body)`."""
    return call(Symbol("fn"), Compound("vector", tuple(parameters)), body)


def hoppl(forms: Sequence[Form], source: Source, fresh: Fresh) -> Form:
    """Return a program, definitions and one expression, as an expression.

    Raises:
        CompileError: A form has the wrong parts, or stands where it may not.
    """
    for form in forms:
        if (head_name(form) == "defn") == (form is forms[-1]):
            raise source.compile_error(
                form.span,
                "a program is definitions, then one expression",
                "(defn name [parameter ...] body) ... expression",
                f"{head_name(form) or 'an expression'} as form "
                f"{forms.index(form) + 1} of {len(forms)}",
            )
    writer = _Writer(source, fresh)
    defined = [run(writer.definition(form)) for form in forms[:-1]]
    result = run(writer.core(forms[-1]))
    if writer.has_loops:
        (helper,) = read(_HELPER, "loop-helper")
        _, value = run(writer.definition(helper))
        defined.insert(0, (writer.helper, value))
    for name, value in reversed(defined):
        result = call(function([name], result), value)
    return result


class _Writer:
    def __init__(self, source: Source, fresh: Fresh) -> None:
        self.source = source
        self.fresh = fresh
        self.helper = fresh.unless_taken("loop-helper")
        self.has_loops = False

    def definition(self, form: Form) -> Recursive[tuple[Symbol, Form]]:
        """Return the name of a `defn` and the function that it stands for."""
        assert isinstance(form, Compound)  # noqa: S101 - its head is known
        name = form.items[1] if len(form.items) > 1 else None
        if not isinstance(name, Symbol):
            raise self.source.compile_error(
                form.span, "defn has no name", "(defn name [parameter ...] body)"
            )
        parameters = self._parameters(form, 2)
        body = yield self._sequence(form.items[3:])
        if name in parameters:
            return name, function(parameters, body)  # it cannot call itself
        body = yield _given_to_itself(body, name, parameters)
        own = function([*parameters, name], body)
        return name, function(parameters, call(own, *parameters, own))

    def core(self, form: Form) -> Recursive[Form]:
        """Return a form without lets, loops, vectors and maps."""
        if not isinstance(form, Compound):
            return form
        if form.kind != "list":
            name = "vector" if form.kind == "vector" else "hash-map"
            form = call(Symbol(name), *form.items)
        if not form.items:
            raise self.source.compile_error(form.span, "a call has no function")
        match head_name(form):
            case "let":
                result: Form = yield self._let(form)
            case "fn":
                parameters = self._parameters(form, 1)
                body = yield self._sequence(form.items[2:])
                result = function(parameters, body)
            case "loop":
                result = yield self._loop(form)
            case "foreach":
                result = yield self._foreach(form)
            case _:
                result = call(*(yield each(map(self.core, form.items))))
        return result

    def _parameters(self, form: Compound, place: int) -> tuple[Symbol, ...]:
        found = form.items[place] if len(form.items) > place else None
        names = found.items if isinstance(found, Compound) else ()
        symbols = tuple(name for name in names if isinstance(name, Symbol))
        if (
            not isinstance(found, Compound)
            or found.kind != "vector"
            or names != symbols
        ):
            raise self.source.compile_error(
                form.span,
                f"{head_name(form)} has no vector of parameters",
                "[parameter ...]",
            )
        return symbols

    def _sequence(self, bodies: Sequence[Form]) -> Recursive[Form]:
        """Return the value of the last of some forms."""
        if not bodies:
            return Literal(None)
        unused = [self.fresh("dontcare") for _ in bodies[:-1]]
        result: Form = yield self.core(bodies[-1])
        for name, body in zip(reversed(unused), bodies[-2::-1], strict=True):
            result = call(function([name], result), (yield self.core(body)))
        return result

    def _let(self, form: Compound) -> Recursive[Form]:
        if len(form.items) < 2:
            raise self.source.compile_error(form.span, "let has no binding vector")
        pairs = bindings(form.items[1], self.source)
        result: Form = yield self._sequence(form.items[2:])
        for name, value in reversed(pairs):
            result = call(function([name], result), (yield self.core(value)))
        return result

    def _loop(self, form: Compound) -> Recursive[Form]:
        if len(form.items) < 4:
            raise self.source.compile_error(
                form.span,
                "loop has too few parts",
                "(loop count accumulator function argument ...)",
                f"{len(form.items) - 1} parts",
            )
        _, count, start, step, *arguments = form.items
        fixed = [self.fresh("a") for _ in arguments]
        i, value = self.fresh("i"), self.fresh("w")
        turn = function([i, value], call((yield self.core(step)), i, value, *fixed))
        result: Form = yield self._turns(count, start, turn, fixed, arguments)
        return result

    def _foreach(self, form: Compound) -> Recursive[Form]:
        if len(form.items) < 3:
            raise self.source.compile_error(
                form.span, "foreach has no binding vector", "(foreach n [...] ...)"
            )
        pairs = bindings(form.items[2], self.source, "foreach")
        fixed = [self.fresh("a") for _ in pairs]
        i, value = self.fresh("i"), self.fresh("w")
        body = yield self._sequence(form.items[3:])
        for (name, _), collection in zip(reversed(pairs), reversed(fixed), strict=True):
            body = call(function([name], body), call(Symbol("get"), collection, i))
        turn = function([i, value], call(Symbol("conj"), value, body))
        start, collections = Compound("vector", ()), [value for _, value in pairs]
        result: Form = yield self._turns(form.items[1], start, turn, fixed, collections)
        return result

    def _turns(
        self,
        count: Form,
        start: Form,
        turn: Form,
        names: Sequence[Symbol],
        values: Sequence[Form],
    ) -> Recursive[Form]:
        """Return a call of the helper, with names for values that turns share."""
        self.has_loops = True
        count, start = (yield self.core(count)), (yield self.core(start))
        result: Form = call(self.helper, Literal(0), count, start, turn)
        for name, value in zip(reversed(names), reversed(values), strict=True):
            result = call(function([name], result), (yield self.core(value)))
        return result


def _given_to_itself(
    form: Form, name: Symbol, parameters: Sequence[Symbol]
) -> Recursive[Form]:
    """Return a function's body in which it takes itself as its last argument."""
    if form == name:
        return function(parameters, call(name, *parameters, name))
    if not isinstance(form, Compound) or form.kind != "list":
        return form
    if head_name(form) == "fn":
        bound = form.items[1]
        if isinstance(bound, Compound) and name in bound.items:
            return form
    is_own = form.items[0] == name
    parts = yield each(
        _given_to_itself(part, name, parameters) for part in form.items[is_own:]
    )
    return call(name, *parts, name) if is_own else call(*parts)

"""This file runs drawn programs (see `strategies`) and weighs their documents.

It is an oracle: it shares no code with the compiler. `run` evaluates a program on given
draws as Clojure would, and adds up the log density of what it samples and observes.
`weigh` evaluates a document's link functions on the same draws.

The language's meaning of a condition that is not known at compile time: both branches
are evaluated, their samples count always, their observes only where the branch is
taken. So every value carries whether it depends on a draw or on a runtime function
(`tanh`), which is all that is not known.
"""

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Run", "run", "weigh"]


@dataclass
class Value:
    """A number, Boolean, list or dict of values, and whether it is not known."""

    plain: Any
    is_random: bool = False


@dataclass
class Run:
    """What a program did: its log density, its latents' values, its result."""

    log_density: float
    latents: list[Any]
    result: Any


class _Interpreter:
    def __init__(self, draws: list[float]) -> None:
        self.draws = draws
        self.functions: dict[str, tuple[list[str], Any]] = {}
        self.latents: list[Any] = []
        self.log_density = 0.0

    def value(self, form: Any, env: dict[str, Value], live: bool) -> Value:
        if isinstance(form, list):
            return Value([self.value(x, env, live) for x in form])
        if isinstance(form, str):
            return env[form] if not form.startswith(":") else Value(form)
        if not isinstance(form, tuple):
            return Value(form)
        head, *rest = form
        method = getattr(self, f"_{head}", None)
        if method is not None:
            return method(rest, env, live)
        return self.call(head, [self.value(x, env, live) for x in rest], live)

    def call(self, head: str, values: list[Value], live: bool) -> Value:
        if head in self.functions:
            parameters, body = self.functions[head]
            env: dict[str, Value] = {}
            for name, value in zip(parameters, values, strict=True):
                env[name] = value
            return self.value(body, env, live)
        return _PRIMITIVES[head](*values)

    def _let(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        bindings, *bodies = rest
        env = dict(env)
        for name, bound in zip(bindings[::2], bindings[1::2], strict=True):
            env[name] = self.value(bound, env, live)
        return [self.value(body, env, live) for body in bodies][-1]

    def _if(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        test, then, otherwise = rest
        condition = self.value(test, env, live)
        if not condition.is_random:
            return self.value(then if condition.plain else otherwise, env, live)
        yes = self.value(then, env, live and condition.plain)
        no = self.value(otherwise, env, live and not condition.plain)
        return Value((yes if condition.plain else no).plain, is_random=True)

    def _when(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        return self._if([rest[0], rest[1], 0], env, live)

    def _foreach(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        turns, bindings, body = rest
        columns = [self.value(bound, env, live).plain for bound in bindings[1::2]]
        rows = []
        for turn in range(turns):
            inner = dict(env)
            for name, column in zip(bindings[::2], columns, strict=True):
                inner[name] = column[turn]
            rows.append(self.value(body, inner, live))
        return Value(rows)

    def _loop(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        turns, start, head = rest
        result = self.value(start, env, live)
        for turn in range(turns):
            result = self.call(head, [Value(turn), result], live)
        return result

    def _reduce(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        result = self.value(rest[1], env, live)
        for item in self.value(rest[2], env, live).plain:
            result = self.call(rest[0], [result, item], live)
        return result

    def _sample(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        head, *parameters = rest[0]
        values = [self.value(x, env, live).plain for x in parameters]
        draw = self.draws[len(self.latents) % len(self.draws)]
        value = draw > 0 if head == "flip" else draw
        self.latents.append(value)
        self.log_density += _log_density(head, values, value)
        return Value(value, is_random=True)

    def _observe(self, rest: list[Any], env: dict[str, Value], live: bool) -> Value:
        (head, *parameters), observed = rest
        values = [self.value(x, env, live).plain for x in parameters]
        value = self.value(observed, env, live).plain
        if live:
            self.log_density += _log_density(head, values, value)
        return Value(value, is_random=True)


def run(program: list[Any], draws: list[float]) -> Run:
    """Return what `program` does when its samples give `draws`, repeated as needed."""
    interpreter = _Interpreter(draws)
    for _, name, parameters, body in program[:-1]:
        interpreter.functions[name] = (parameters, body)
    result = interpreter.value(program[-1], {}, live=True)
    return Run(interpreter.log_density, interpreter.latents, result.plain)


def _log_density(family: str, parameters: list[Any], value: Any) -> float:
    if family == "flip":
        return math.log(parameters[0] if value else 1 - parameters[0])
    mean, scale = parameters
    z = (value - mean) / scale
    return -0.5 * z * z - math.log(scale) - 0.5 * math.log(2 * math.pi)


def _lift(function: Any) -> Any:
    def lifted(*values: Value) -> Value:
        result = function(*(v.plain for v in values))
        return Value(result, is_random=any(v.is_random for v in values))

    return lifted


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, float) == isinstance(b, float) and a == b


def _all(*values: Value) -> Value:
    """`and`: the first false value, else the last; random if any is."""
    chosen = next((v for v in values if not v.plain), values[-1])
    return Value(chosen.plain, is_random=any(v.is_random for v in values))


def _any(*values: Value) -> Value:
    chosen = next((v for v in values if v.plain), values[-1])
    return Value(chosen.plain, is_random=any(v.is_random for v in values))


_PRIMITIVES = {
    "+": _lift(lambda *xs: sum(xs)),
    "-": _lift(lambda a, b: a - b),
    "*": _lift(lambda a, b: a * b),
    "/": _lift(lambda a, b: _divide(a, b)),
    "min": _lift(lambda a, b: a if a < b else b),
    "max": _lift(lambda a, b: a if a > b else b),
    "tanh": lambda x: Value(math.tanh(x.plain), is_random=True),
    "abs": _lift(abs),
    "inc": _lift(lambda a: a + 1),
    "not": _lift(lambda a: not a),
    "<": _lift(lambda a, b: a < b),
    ">": _lift(lambda a, b: a > b),
    "<=": _lift(lambda a, b: a <= b),
    "=": _lift(_same),
    "and": _all,
    "or": _any,
    "get": lambda v, k: _get(v.plain, k.plain),
    "first": lambda v: v.plain[0],
    "second": lambda v: v.plain[1],
    "last": lambda v: v.plain[-1],
    "count": lambda v: Value(len(v.plain)),
    "conj": lambda v, x: Value([*v.plain, x]),
    "subvec": lambda v, start: Value(v.plain[start.plain :]),
    "hash-map": lambda *xs: Value({k.plain: v for k, v in _pairs(xs)}),
}


def _get(values: Any, key: Any) -> Value:
    """`get`: an entry; of a map random if any is, as maps are not taken apart."""
    if not isinstance(values, dict):
        return values[key]
    is_random = any(value.is_random for value in values.values())
    return Value(values[key].plain, is_random=is_random)


def _pairs(items: tuple[Value, ...]) -> zip:
    return zip(items[::2], items[1::2], strict=True)


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return a // b if a % b == 0 else a / b
    return a / b


# ------------------------------------------------------------------ documents


def weigh(document: list[Any], latents: list[Any]) -> tuple[float, Any]:
    """Return the log density of a document at the latents' values, and its result.

    Latents take the values in the order of `V`; observed variables have their data.
    """
    graph = document[1]
    values = dict(graph["Y"])
    names = [name for name in graph["V"] if name not in values]
    assert len(names) == len(latents), "the document has other latents"
    values.update(zip(names, latents, strict=True))
    total = 0.0
    for name in graph["V"]:
        total += _weight(graph["P"][name], values[name], values)
    return total, _evaluate(document[2], values)


def _weight(link: Any, value: Any, values: dict[str, Any]) -> float:
    if link[0] == "if":
        return _weight(link[2], value, values) if _evaluate(link[1], values) else 0.0
    if link[0] == "observe*":
        assert _evaluate(link[2], values) == value, "P and Y disagree"
    head, *parameters = link[1]
    return _log_density(head, [_evaluate(x, values) for x in parameters], value)


def _evaluate(term: Any, values: dict[str, Any]) -> Any:
    if isinstance(term, str):
        return values.get(term, term)
    if not isinstance(term, list):
        return term
    head, *rest = term
    if head == "vector":
        return [_evaluate(x, values) for x in rest]
    if head == "if":
        return _evaluate(rest[1] if _evaluate(rest[0], values) else rest[2], values)
    if head == "let":
        (name, bound), body = rest
        return _evaluate(body, values | {name: _evaluate(bound, values)})
    if head == "and":
        return all(_evaluate(x, values) for x in rest)
    if head == "or":
        return any(_evaluate(x, values) for x in rest)
    arguments = [_evaluate(x, values) for x in rest]
    if head == "get":
        return arguments[0][arguments[1]]
    if head == "hash-map":
        return dict(zip(arguments[::2], arguments[1::2], strict=True))
    return _PRIMITIVES[head](*map(Value, arguments)).plain

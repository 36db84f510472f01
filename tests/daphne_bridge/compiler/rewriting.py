"""This file compiles programs as the original does: by rewriting their text.

It is an oracle: it follows the written description of the original's passes, bugs
included, and shares no pass with the compiler, only the reader and the meaning of
functions on constants. Where the compiler carries values, this writes a value into
every place of its name and repeats desugaring, partial evaluation and simplification
until nothing changes; so it is slow, and for small programs.

Data are forms as values: `ListSeq` is a list (a call), `Seq` any other sequence, a
tuple a vector, `HashMap` a map, `Name` a symbol.

Left out: the memo tables, by which the original now and then takes a vector for a list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

from daphne_bridge.compiler.forms import Compound, Form, Literal, Symbol
from daphne_bridge.compiler.reader import read
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import (
    PRIMITIVES,
    HashMap,
    Keyword,
    PrimitiveError,
    Seq,
    format_double,
    truthy,
)
from daphne_bridge.language.primitives.values import ListSeq

__all__ = ["NotCompiledError", "rewritten"]

MAX_ROUNDS = 100


class NotCompiledError(Exception):
    """The original ends with an error."""


class _NoValueError(Exception):
    """A form cannot be evaluated now."""


@dataclass(frozen=True)
class Name:
    """A symbol."""

    text: str


@dataclass
class Graph:
    """The random variables of a form: names, children, link functions, data."""

    nodes: list[str] = field(default_factory=list)
    children: dict[str, list[str]] = field(default_factory=dict)
    links: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def merge(self, other: "Graph") -> None:
        """Add the variables of another form."""
        self.nodes += [n for n in other.nodes if n not in self.nodes]
        for name, children in other.children.items():
            mine = self.children.setdefault(name, [])
            mine += [c for c in children if c not in mine]
        self.links |= other.links
        self.data |= other.data


MACROS = {"and", "or", "cond", "when", "->", "->>", "let", "if-not", "when-not"}
HIGHER = {"map", "mapv", "reduce", "apply", "filter", "filterv", "remove", "every?"}
CORE = (
    MACROS | HIGHER | {n for n, p in PRIMITIVES.items() if p.folds} - {"put", "append"}
)
BOUND = {n for n in PRIMITIVES if n not in {"map", "reduce"}} | FAMILIES.keys() | MACROS
BOUND |= {"if", "let", "apply", "mapv", "observe*", "sample*"}
SIMPLIFIED = {"rest", "first", "second", "last", "butlast", "nth", "conj", "cons"}
SIMPLIFIED |= {"vector", "subvec", "vec", "get", "put", "list", "append", "count"}
SIMPLIFIED |= {"concat", "flatten"}


def rewritten(text: str) -> list[Any]:
    """Return the original's document of a program.

    Raises:
        NotCompiledError: The original ends with an error.
    """
    rewriter = _Rewriter()
    graph, result = Graph(), None
    for form in read(text, "rewritten.daphne"):
        graph, result = rewriter.analyse(True, _data(form))
    functions = {
        name: ["fn", [p.text for p in ps], _json(_desugar(body, rewriter.fresh))]
        for name, (ps, body) in rewriter.functions.items()
    }
    links = {name: _json(link) for name, link in graph.links.items()}
    data = {name: _plain_json(value) for name, value in graph.data.items()}
    parts = {"V": graph.nodes, "A": graph.children, "P": links, "Y": data}
    return [functions, parts, _json(result)]


def _data(form: Form) -> Any:
    match form:
        case Symbol(name=name):
            return Name(name)
        case Literal(value=value):
            return value
        case Compound(kind=kind, items=items):
            parts = tuple(map(_data, items))
            if kind == "map":
                return HashMap(zip(parts[::2], parts[1::2], strict=True))
            return ListSeq(parts) if kind == "list" else parts
    raise AssertionError(form)


def _call(head: str, *parts: Any) -> ListSeq:
    return ListSeq((Name(head), *parts))


def _head(form: Any) -> str | None:
    if isinstance(form, ListSeq) and form and isinstance(form[0], Name):
        return form[0].text
    return None


def _each(form: Any, change: Callable[[Any], Any]) -> Any:
    """Return `form` with its parts changed, of the same class."""
    if isinstance(form, HashMap):
        return HashMap((change(k), change(v)) for k, v in form.pairs())
    if isinstance(form, tuple):
        return type(form)(map(change, form))
    return form


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, HashMap) and isinstance(b, HashMap):
        return len(a) == len(b) and all(k in b and _same(v, b[k]) for k, v in a.pairs())
    return type(a) is type(b) and bool(a == b)


def _flat(form: Any) -> Iterator[Any]:
    if isinstance(form, tuple):
        for part in form:
            yield from _flat(part)
    else:
        yield form


def _has_symbol(form: Any) -> bool:
    return any(isinstance(x, Name) for x in _flat(form))


Fresh = Callable[[str], str]


# ------------------------------------------------------------------ desugar


def _desugar(form: Any, fresh: Fresh) -> Any:
    def again(part: Any) -> Any:
        return _desugar(part, fresh)

    match _head(form):
        case "let":
            return _desugar_let(form, fresh, again)
        case "loop" if type(form[1]) is int:
            return _desugar_loop(form, fresh)
        case "foreach" if type(form[1]) is int:
            names = again(form[2])
            rows = [
                _call("let", _elements(names, turn), *form[3:])
                for turn in range(form[1])
            ]
            return again(tuple(rows))
        case "loop" | "foreach":
            return form
        case "if":
            parts = [again(p) for p in (*form[1:], None)[:3]]
            return _call("if", *parts)
    return _each(form, again)


def _elements(names: tuple[Any, ...], turn: int) -> tuple[Any, ...]:
    pairs = zip(names[::2], names[1::2], strict=True)
    return tuple(x for name, e in pairs for x in (name, _call("get", e, turn)))


def _desugar_loop(form: Any, fresh: Fresh) -> Any:
    _, turns, start, function, *arguments = form
    if turns < 0:
        raise NotCompiledError("stack overflow")
    names = [Name(fresh("a")) for _ in arguments]
    bindings = [x for pair in zip(names, arguments, strict=True) for x in pair]
    result: Any = start
    accumulators: list[tuple[Name, Any]] = []
    for turn in range(turns):
        name = Name(fresh("acc"))
        accumulators.append((name, ListSeq((function, turn, result, *names))))
        result = name
    for name, value in reversed(accumulators):
        result = _call("let", (name, value), result)
    return _desugar(_call("let", tuple(bindings), result), fresh)


def _desugar_let(form: Any, fresh: Fresh, again: Callable[[Any], Any]) -> Any:
    _, bindings, *bodies = form
    names, values = bindings[::2], [again(v) for v in bindings[1::2]]
    result: Any = None
    if bodies:
        unused = [Name(fresh("dontcare")) for _ in bodies[:-1]]
        done = [again(body) for body in bodies]
        result = done[-1]
        for name, value in reversed(list(zip(unused, done[:-1], strict=True))):
            result = _call("let", (name, value), result)
    for name, value in reversed(list(zip(names, values, strict=False))):
        result = _call("let", (name, value), result)
    return result


def _only_lets(form: Any, fresh: Fresh) -> Any:
    def again(part: Any) -> Any:
        return _only_lets(part, fresh)

    return (
        _desugar_let(form, fresh, again) if _head(form) == "let" else _each(form, again)
    )


def _substitute(form: Any, name: Name, value: Any) -> Any:
    def again(part: Any) -> Any:
        return _substitute(part, name, value)

    if form == name:
        return value
    match _head(form):
        case "let":
            (bound, given), body = form[1][:2], form[2]
            if bound == name:
                return form
            return _call("let", (bound, again(given)), again(body))
        case "foreach":
            names = tuple(x if i % 2 == 0 else again(x) for i, x in enumerate(form[2]))
            return _call("foreach", again(form[1]), names, *map(again, form[3:]))
    return _each(form, again)


# ------------------------------------------------------- partial evaluation


def _partial(form: Any) -> Any:
    head = _head(form)
    if head == "let":
        return _partial_let(form)
    if head == "defn":
        return ListSeq((*form[:3], *map(_partial, form[3:])))
    if head in ("loop", "foreach"):
        return ListSeq((form[0], _partial(form[1]), *form[2:]))
    if isinstance(form, ListSeq):
        if not form:
            return ListSeq((None,))
        if head in CORE:
            try:
                return _evaluated(form)
            except _NoValueError:
                pass
        return ListSeq((form[0], *map(_partial, form[1:])))
    return _each(form, _partial)


def _partial_let(form: Any) -> Any:
    (name, given), *bodies = form[1:]
    value = _partial(given)
    is_value = isinstance(value, HashMap) or not _has_symbol(value)
    if is_value:
        new = [_partial(_substitute(b, name, value)) for b in bodies]
    else:
        new = [_partial(b) for b in bodies]
    result = _call("let", (name, value), *new)
    if _has_symbol((value,)):
        return result
    try:
        return _evaluated(result)
    except _NoValueError:
        return result if _has_symbol(tuple(bodies)) else bodies[-1]


def _evaluated(form: Any) -> Any:
    """Return what Clojure makes of a form without free names."""
    _resolve(form, frozenset())
    value = _value(form, {})
    if any(callable(x) for x in _flat((value,))):
        raise NotCompiledError("a function in the program")
    return value


def _resolve(form: Any, local: frozenset[str]) -> None:
    """Raise unless every symbol has a meaning, as Clojure's compiler does."""
    if isinstance(form, Name):
        if form.text not in local and form.text not in VISIBLE:
            raise _NoValueError
        return
    head = _head(form)
    if head == "let":
        for name, bound in zip(form[1][::2], form[1][1::2], strict=False):
            _resolve(bound, local)
            local |= {name.text}
        for body in form[2:]:
            _resolve(body, local)
        return
    parts = form.pairs() if isinstance(form, HashMap) else form
    if isinstance(parts, tuple):
        for part in parts[1:] if head == "if" else parts:
            _resolve(part, local)


def _value(form: Any, env: dict[str, Any]) -> Any:
    if isinstance(form, Name):
        return env[form.text] if form.text in env else _core(form.text)
    if not isinstance(form, Seq):
        return _each(form, lambda part: _value(part, env))
    if not form:
        return form
    head, *rest = form
    if isinstance(head, Name) and head.text not in env:
        if head.text == "let":
            inner = dict(env)
            for name, bound in zip(rest[0][::2], rest[0][1::2], strict=False):
                inner[name.text] = _value(bound, inner)
            return [None, *(_value(body, inner) for body in rest[1:])][-1]
        if head.text == "if":
            test, then, *other = rest
            chosen = [then] if truthy(_value(test, env)) else other
            return _value(chosen[0], env) if chosen else None
        if head.text in MACROS:
            return _value(_expanded(head.text, rest), env)
    function = _value(head, env)
    return _applied(function, [_value(x, env) for x in rest])


def _expanded(macro: str, rest: list[Any]) -> Any:
    match macro:
        case "when":
            return _call("if", rest[0], _call("let", (), *rest[1:]), None)
        case "when-not":
            return _call("if", rest[0], None, _call("let", (), *rest[1:]))
        case "if-not":
            return _call("if", rest[0], *reversed((*rest[1:], None)[:2]))
        case "cond":
            if not rest:
                return None
            return _call("if", *rest[:2], _call("cond", *rest[2:]))
        case "and":
            if len(rest) <= 1:
                return rest[0] if rest else True
            inner = _call("if", Name("and__"), _call("and", *rest[1:]), Name("and__"))
            return _call("let", (Name("and__"), rest[0]), inner)
        case "or":
            if len(rest) <= 1:
                return rest[0] if rest else None
            inner = _call("if", Name("or__"), Name("or__"), _call("or", *rest[1:]))
            return _call("let", (Name("or__"), rest[0]), inner)
    value = rest[0]
    for step in rest[1:]:
        parts = step if isinstance(step, ListSeq) else (step,)
        ends = (value, *parts[1:]) if macro == "->" else (*parts[1:], value)
        value = ListSeq((parts[0], *ends))
    return value


def _applied(function: Any, values: list[Any]) -> Any:
    try:
        if callable(function):
            return function(*values)
        if isinstance(function, Keyword):
            return PRIMITIVES["get"].apply(values[0], function, *values[1:])
        if isinstance(function, HashMap):
            return PRIMITIVES["get"].apply(function, *values)
        if isinstance(function, tuple) and not isinstance(function, Seq):
            return PRIMITIVES["nth"].apply(function, *values)
    except (PrimitiveError, IndexError):
        pass
    raise _NoValueError


def _core(name: str) -> Any:
    if name in HIGHER_ORDER:
        return HIGHER_ORDER[name]
    if name in MACROS:
        raise _NoValueError
    primitive = PRIMITIVES[name]
    low, high = primitive.min_args, primitive.max_args

    def run(*values: Any) -> Any:
        if len(values) < low or (high is not None and len(values) > high):
            raise _NoValueError
        try:
            value = primitive.apply(*values)
        except PrimitiveError:
            raise _NoValueError from None
        if name == "rest" and not value:
            return ListSeq()
        return value

    return run


def _sequence(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, HashMap):
        return value.pairs()
    if not isinstance(value, tuple):
        raise _NoValueError
    return value


def _mapped(function: Any, *columns: Any) -> Seq:
    rows = zip(*map(_sequence, columns), strict=False)
    return Seq(_applied(function, list(row)) for row in rows)


def _reduced(function: Any, *rest: Any) -> Any:
    items = list(_sequence(rest[-1]))
    items = [rest[0], *items] if len(rest) == 2 else items
    if not items:
        return _applied(function, [])
    result = items[0]
    for item in items[1:]:
        result = _applied(function, [result, item])
    return result


def _kept(function: Any, items: Any, *, keep: bool = True) -> Seq:
    return Seq(x for x in _sequence(items) if truthy(_applied(function, [x])) == keep)


HIGHER_ORDER: dict[str, Callable[..., Any]] = {
    "map": _mapped,
    "mapv": lambda f, *cs: tuple(_mapped(f, *cs)),
    "reduce": _reduced,
    "apply": lambda f, *xs: _applied(f, [*xs[:-1], *_sequence(xs[-1])]),
    "filter": _kept,
    "filterv": lambda f, xs: tuple(_kept(f, xs)),
    "remove": lambda f, xs: _kept(f, xs, keep=False),
    "every?": lambda f, xs: all(truthy(_applied(f, [x])) for x in _sequence(xs)),
}
VISIBLE = CORE | {"append"} | {n for n, p in PRIMITIVES.items() if p.visible}


# ------------------------------------------------------------ simplification


def _simplified(form: Any) -> Any:
    head = _head(form)
    if head in ("loop", "foreach"):
        return ListSeq((form[0], _simplified(form[1]), *form[2:]))
    if head == "let":
        names = tuple(_simplified(x) if i % 2 else x for i, x in enumerate(form[1]))
        return _call("let", names, *map(_simplified, form[2:]))
    if head == "defn":
        return ListSeq((*form[:3], *map(_simplified, form[3:])))
    if head == "if":
        test, then, *other = form[1:]
        test = _simplified(test)
        if test is True:
            return _simplified(then)
        if test is False:
            return _simplified(other[0])
        return _call("if", test, _simplified(then), *map(_simplified, other))
    if head in SIMPLIFIED and len(form) > 1:
        return _simplified_call(head, tuple(map(_simplified, form[1:])))
    return _each(form, _simplified)


def _simplified_call(head: str, parts: tuple[Any, ...]) -> Any:
    first, *rest = parts
    if head == "vector":
        return parts
    if not isinstance(first, ListSeq) and isinstance(first, (tuple, HashMap)):
        if head == "concat" and any(isinstance(x, Name) for x in rest):
            raise NotCompiledError("concat of a name")
        try:
            value = _core(head)(first, *rest)
        except _NoValueError:
            value = None
        if head in ("butlast", "flatten") and value is not None:
            value = tuple(value)
        if value is not None and value is not False:
            return value
    return _call(head, *parts)


def _fixed(form: Any) -> Any:
    numbers = count()

    def fresh(stem: str) -> str:
        return f"{stem}{next(numbers)}"

    for _ in range(MAX_ROUNDS):
        new = _simplified(_partial(_desugar(form, fresh)))
        if _same(new, form):
            break
        form = new
    return form


# ------------------------------------------------------------------ analysis


class _Rewriter:
    def __init__(self) -> None:
        self.functions: dict[str, tuple[tuple[Name, ...], Any]] = {}
        self._numbers = count()

    def fresh(self, stem: str) -> str:
        return f"{stem}{next(self._numbers)}"

    def analyse(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        match _head(form):
            case "defn":
                self.functions[form[1].text] = (form[2], form[3])
                return Graph(), form[1]
            case "let":
                return self._let(guard, form)
            case "if":
                return self._if(guard, form)
            case "sample":
                return self._sample(guard, form)
            case "observe":
                return self._observe(guard, form)
        if isinstance(form, ListSeq):
            return self._application(guard, form)
        graph = Graph()

        def part(item: Any) -> Any:
            inner, value = self.analyse(guard, item)
            graph.merge(inner)
            return value

        if isinstance(form, HashMap):
            keys = [part(k) for k, _ in form.pairs()]
            values = [part(v) for _, v in form.pairs()]
            return graph, HashMap(zip(keys, values, strict=True))
        return graph, _each(form, part)

    def _let(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        (name, given), *bodies = _only_lets(form, self.fresh)[1:]
        graph, value = self.analyse(guard, given)
        for body in bodies:
            new = _fixed(_substitute(body, name, value))
            inner, result = self.analyse(guard, new)
            graph.merge(inner)
        return graph, result

    def _if(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        test, then, other = (*form[1:], None)[:3]
        graph, condition = self.analyse(guard, test)
        holds = _fixed(_call("and", guard, condition))
        fails = _fixed(_call("and", guard, _call("not", condition)))
        yes, first = self.analyse(holds, then)
        no, second = self.analyse(fails, other)
        graph.merge(yes)
        graph.merge(no)
        return graph, _fixed(_call("if", condition, first, second))

    def _sample(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        stem = "sample" if len(form) == 2 else _stem(form[1])
        graph, value = self.analyse(guard, _fixed(form[min(len(form) - 1, 2)]))
        name = self.fresh(stem)
        node = Graph([name], {}, {name: _call("sample*", _fixed(value))})
        self._add(graph, node, name, _free(value))
        return graph, Name(name)

    def _observe(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        stem = "observe" if len(form) == 3 else _stem(form[1])
        distribution, data = map(_fixed, form[-2:])
        graph, _ = self.analyse(guard, distribution)
        inner, observed = self.analyse(guard, data)
        graph.merge(inner)
        name = self.fresh(stem)
        link = _fixed(_call("if", guard, _call("observe*", distribution, data), 1))
        node = Graph([name], {}, {name: link}, {name: observed})
        self._add(graph, node, name, _free(distribution))
        return graph, Name(name)

    def _add(self, graph: Graph, node: Graph, name: str, parents: list[str]) -> None:
        graph.merge(node)
        for parent in parents:
            graph.children[parent] = [name]

    def _application(self, guard: Any, form: Any) -> tuple[Graph, Any]:
        graph = Graph()
        values = []
        for part in form[1:]:
            inner, value = self.analyse(guard, part)
            graph.merge(inner)
            values.append(value)
        head = _head(form)
        if head in self.functions:
            parameters, body = self.functions[head]
            if len(parameters) != len(values):
                raise NotCompiledError("wrong number of arguments")
            pairs = zip(parameters, values, strict=True)
            bindings = tuple(x for pair in pairs for x in pair)
            inner, value = self.analyse(guard, _fixed(_call("let", bindings, body)))
            graph.merge(inner)
            return graph, value
        if not values:
            raise NotCompiledError("a call without arguments")
        return graph, _fixed(ListSeq((form[0], *values)))


def _stem(name: Any) -> str:
    if isinstance(name, Name):
        return name.text
    return f":{str.__str__(name)}" if isinstance(name, Keyword) else str(name)


def _free(form: Any, local: frozenset[str] = frozenset()) -> list[str]:
    """Return the free names of a form, each once."""
    names: dict[str, None] = {}
    if isinstance(form, Name):
        if form.text not in local and form.text not in BOUND:
            names[form.text.rpartition("/")[2] or form.text] = None
    elif _head(form) == "let":
        for name, bound in zip(form[1][::2], form[1][1::2], strict=True):
            names |= dict.fromkeys(_free(bound, local))
            local |= {name.text}
        for body in form[2:]:
            names |= dict.fromkeys(_free(body, local))
    else:
        parts = form.pairs() if isinstance(form, HashMap) else form
        for part in parts if isinstance(parts, tuple) else ():
            names |= dict.fromkeys(_free(part, local))
    return list(names)


# -------------------------------------------------------------------- output


def _json(form: Any, *, is_plain: bool = False) -> Any:
    match form:
        case Name(text=text):
            return text.rpartition("/")[2] or text
        case HashMap():
            return ["hash-map", *(_json(x) for pair in form.pairs() for x in pair)]
        case Seq():
            plain_at = {"let": 1, "fn": 1}.get(_head(form) or "", -1)
            return [_json(x, is_plain=i == plain_at) for i, x in enumerate(form)]
        case tuple():
            return [*([] if is_plain else ["vector"]), *map(_json, form)]
    return _atom(form)


def _plain_json(form: Any) -> Any:
    if isinstance(form, HashMap):
        return {_key(k): _plain_json(v) for k, v in form.pairs()}
    if isinstance(form, tuple):
        return list(map(_plain_json, form))
    return _json(form)


def _key(key: Any) -> str:
    if isinstance(key, float):
        return format_double(key)
    return str(_json(key))


def _atom(value: Any) -> Any:
    if callable(value):
        raise NotCompiledError("a function in the document")
    if isinstance(value, Keyword):
        return str.__str__(value)
    if isinstance(value, str):
        return f'"{value}"'
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, Decimal) and value.as_tuple().exponent:
        return float(value)  # it keeps its zeros
    return int(value) if value == int(value) else float(value)

"""This file turns forms into core forms: nested lets with one name each, and no loops.

    (let [a 1 b 2] c d)      ->  (let [a 1] (let [b 2] (let [dontcare0 c] d)))
    (loop 2 acc f x)         ->  (let [a0 x] (let [acc1 (f 0 acc a0)]
                                   (let [acc2 (f 1 acc1 a0)] acc2)))
    (foreach 2 [v e] b)      ->  [(let [v (get e 0)] b) (let [v (get e 1)] b)]
    (if c t)                 ->  (if c t nil)

Daphne writes the collection of a foreach once per element, which draws a sample in it
again and again; here one that may sample is bound to a name first. Generated names
differ from every name in the form, so that they capture nothing. A loop or foreach is
unrolled only if its count is written as a number; the analysis unrolls the others when
it knows their count. `desugar` is idempotent up to the numbers in generated names.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 2.1, https://arxiv.org/abs/1809.10756
"""

from collections.abc import Callable, Iterator
from itertools import count

from ..errors import CompileError
from ..language.families import DISTRIBUTIONS
from ..language.primitives import PRIMITIVES
from .forms import Compound, Form, Literal, Span, Symbol, head_name, symbols
from .recursion import Recursive, run
from .source import Source

__all__ = ["MAX_UNROLLED", "bindings", "describe", "desugar", "unroll_limit"]

MAX_UNROLLED = 1_000_000
"""Most turns of one loop or foreach."""

_MAX_TURNS = 1_000_000

Fresh = Callable[[str], str]


def desugar(form: Form, source: Source, numbers: Iterator[int] | None = None) -> Form:
    """Return the core form of `form`.

    Args:
        form: Any form; a `defn` keeps its shape and its bodies are desugared.
        source: Where the form stood, for messages.
        numbers: Numbers for the generated names dontcareN, accN, aN.

    Raises:
        CompileError: A `let`, `loop` or `foreach` has the wrong parts.
    """
    counter = count() if numbers is None else numbers
    steps = count()
    taken = {symbol.name for symbol in symbols(form)}

    def fresh(stem: str) -> str:
        if next(steps) > _MAX_TURNS:
            raise source.compile_error(
                form.span,
                "the loops have too many turns",
                f"at most {_MAX_TURNS}",
                "more",
            )
        name = stem
        while stem and (name == stem or name in taken):
            name = f"{stem}{next(counter)}"
        return name

    return run(_desugar(form, source, fresh))


def bindings(
    form: Form, source: Source, what: str = "let"
) -> tuple[tuple[Symbol, Form], ...]:
    """Return the names and forms of a binding vector.

    Args:
        form: The vector `[name form ...]`.
        source: Where it stood.
        what: The form that it belongs to, for messages.

    Raises:
        CompileError: It is no vector, binds no symbols or has an odd length.
    """
    if not isinstance(form, Compound) or form.kind != "vector":
        raise source.compile_error(
            form.span,
            f"{what} has no binding vector",
            expected="[name form ...]",
            got=describe(form),
        )
    items = form.items
    for name in items[::2]:
        if not isinstance(name, Symbol):
            raise source.compile_error(
                name.span,
                f"{what} binds names only, it takes nothing apart",
                expected="a symbol",
                got=describe(name),
            )
    if len(items) % 2:
        raise source.compile_error(
            items[-1].span,
            f"{what} binds a name to nothing",
            expected="an even number of forms",
            got=str(len(items)),
        )
    names = [name for name in items[::2] if isinstance(name, Symbol)]
    return tuple(zip(names, items[1::2], strict=True))


def describe(form: Form) -> str:
    """Return a few words that say what `form` is."""
    match form:
        case Symbol(name=name):
            return f"the symbol {name}"
        case Compound(kind=kind, items=items):
            article = "a call" if kind == "list" and items else f"a {kind}"
            head = head_name(form)
            return f"({head} ...)" if head else f"{article} of {len(items)} forms"
        case Literal(value=value):
            return f"the constant {str(value)[:40]}" if value is not None else "nil"


def unroll_limit(turns: int, span: Span, source: Source) -> CompileError | None:
    """Return the error for a count that cannot be unrolled, or None."""
    if 0 <= turns <= MAX_UNROLLED:
        return None
    return source.compile_error(
        span,
        "the count cannot be unrolled",
        expected=f"a count from 0 to {MAX_UNROLLED}",
        got=str(turns)[:40],
    )


def _desugar(form: Form, source: Source, fresh: Fresh) -> Recursive[Form]:
    if not isinstance(form, Compound) or not form.items:
        return form
    match head_name(form):
        case "let":
            result: Form = yield _let(form, source, fresh)
        case "loop":
            result = yield _loop(form, source, fresh)
        case "foreach":
            result = yield _foreach(form, source, fresh)
        case "if":
            result = yield _if(form, source, fresh)
        case "quote":
            return form
        case "defn" if len(form.items) > 2:
            bodies = yield _each(form.items[3:], source, fresh)
            result = Compound("list", (*form.items[:3], *bodies), form.span)
        case _:
            items = yield _each(form.items, source, fresh)
            result = Compound(form.kind, items, form.span)
    return result


def _each(
    forms: tuple[Form, ...], source: Source, fresh: Fresh
) -> Recursive[tuple[Form, ...]]:
    results = []
    for form in forms:
        simple = not isinstance(form, Compound)
        results.append(form if simple else (yield _desugar(form, source, fresh)))
    return tuple(results)


def _let(form: Compound, source: Source, fresh: Fresh) -> Recursive[Form]:
    if len(form.items) < 2:
        raise source.compile_error(
            form.span, "let has no binding vector", expected="(let [name form ...] ...)"
        )
    pairs = bindings(form.items[1], source)
    values = yield _each(tuple(value for _, value in pairs), source, fresh)
    bodies = form.items[2:]
    unused = [Symbol(fresh("dontcare"), body.span) for body in bodies[:-1]]
    done = yield _each(bodies, source, fresh)
    result: Form = done[-1] if done else Literal(None, form.span)
    names = [*(name for name, _ in pairs), *unused]
    return _nest(names, [*values, *done[:-1]], result, form.span)


def _nest(names: list[Symbol], values: list[Form], body: Form, span: Span) -> Form:
    for name, value in zip(reversed(names), reversed(values), strict=True):
        vector = Compound("vector", (name, value), span)
        body = Compound("list", (Symbol("let", span), vector, body), span)
    return body


def _loop(form: Compound, source: Source, fresh: Fresh) -> Recursive[Form]:
    turns = form.items[1] if len(form.items) > 1 else None
    if not isinstance(turns, Literal) or type(turns.value) is not int:
        return form
    if len(form.items) < 4:
        raise source.compile_error(
            form.span,
            "loop has too few parts",
            expected="(loop count accumulator function argument ...)",
            got=f"{len(form.items) - 1} parts",
        )
    if error := unroll_limit(turns.value, turns.span, source):
        raise error
    _, _, start, function, *arguments = form.items
    done = yield _each((start, *arguments), source, fresh)
    fixed = [Symbol(fresh("a"), form.span) for _ in arguments]
    names, values, last = list(fixed), list(done[1:]), done[0]
    for turn in range(turns.value):
        call = (function, Literal(turn, form.span), last, *fixed)
        values.append(Compound("list", call, form.span))
        last = Symbol(fresh("acc"), form.span)
        names.append(last)
    return _nest(names, values, last, form.span)


def _foreach(form: Compound, source: Source, fresh: Fresh) -> Recursive[Form]:
    turns = form.items[1] if len(form.items) > 1 else None
    if not isinstance(turns, Literal) or type(turns.value) is not int:
        return form
    if len(form.items) < 3:
        raise source.compile_error(
            form.span, "foreach has no binding vector", expected="(foreach n [...] ...)"
        )
    if turns.value > MAX_UNROLLED and (
        error := unroll_limit(turns.value, turns.span, source)
    ):
        raise error
    pairs = bindings(form.items[2], source, "foreach")
    values = yield _each(tuple(value for _, value in pairs), source, fresh)
    names = [name for name, _ in pairs]
    kept: list[tuple[Symbol, Form]] = []
    for position, value in enumerate(values):
        if turns.value > 1 and _may_sample(value):
            kept.append((Symbol(fresh("a"), value.span), value))
            values = (*values[:position], kept[-1][0], *values[position + 1 :])
    rows = []
    for turn in range(max(0, turns.value)):
        fresh("")
        items = [_element(value, turn, form.span) for value in values]
        body = yield _let(_plain_let(form.items[3:], form.span), source, fresh)
        rows.append(_nest(list(names), items, body, form.span))
    result = Compound("vector", tuple(rows), form.span)
    return _nest([n for n, _ in kept], [v for _, v in kept], result, form.span)


def _may_sample(form: Form) -> bool:
    """Return whether evaluating `form` twice may draw twice."""
    if not isinstance(form, Compound):
        return False
    known = _COPIED | PRIMITIVES.keys() | DISTRIBUTIONS.keys()
    lists = [form]
    while lists:
        part = lists.pop()
        head = head_name(part)
        if part.kind == "list" and head not in known:
            return True
        lists.extend(item for item in part.items if isinstance(item, Compound))
    return False


_COPIED = frozenset({"let", "if", "foreach", "loop"})


def _plain_let(bodies: tuple[Form, ...], span: Span) -> Compound:
    empty = Compound("vector", (), span)
    return Compound("list", (Symbol("let", span), empty, *bodies), span)


def _element(collection: Form, index: int, span: Span) -> Form:
    head = Symbol("get", span)
    return Compound("list", (head, collection, Literal(index, span)), span)


def _if(form: Compound, source: Source, fresh: Fresh) -> Recursive[Form]:
    if not 3 <= len(form.items) <= 4:
        raise source.compile_error(
            form.span,
            "if has the wrong number of parts",
            expected="(if condition then else)",
            got=f"{len(form.items) - 1} parts",
        )
    nothing = Literal(None, form.span)
    parts = yield _each((*form.items[1:], nothing)[:3], source, fresh)
    return Compound("list", (form.items[0], *parts), form.span)

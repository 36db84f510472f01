"""Tests of flows.model.primitives: the bridge's table is the oracle, name by name."""

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch

from daphne_bridge.language.primitives import PRIMITIVES, HashMap, Keyword, Seq
from flows.model.dag import Dag
from flows.model.primitives import NEEDS_KNOWN, RULES, primitives_on
from flows.model.schedule import Schedule
from flows.model.values import Choice, Scalar, Undefined, is_known


@dataclass(frozen=True)
class Unknown:
    """An argument that is known per row only; kinds as in `values.py`."""

    kind: str
    rows: tuple


def real(*rows):
    return Unknown("real", rows)


def whole(*rows):
    return Unknown("integer", rows)


def ratio(*rows):
    exact = [Fraction(row) for row in rows]
    return Unknown("exact", tuple(int(r) if r.denominator == 1 else r for r in exact))


def logic(*rows):
    return Unknown("boolean", rows)


X = real(-2.5, -0.4, 0.0, 0.3, 7.25)
Y = real(1.5, -3.0, 2.0, 0.3, -0.5)
POSITIVE = real(1e-3, 0.5, 1.0, 2.5, 30.0)
UNIT = real(-0.9, -0.2, 0.0, 0.5, 0.99)
N = whole(-7, -1, 0, 2, 3)
M = whole(2, 3, 4, 5, 6)
INDEX = whole(0, 1, 2, 1, 0)
R = ratio("1/2", "3", "-2/3", "4", "0")
A = logic(True, False, True, False, True)
B = logic(True, True, False, False, True)
K = Keyword
TABLE = HashMap([(K("a"), X), (K("b"), 2)])
NUMBERED = HashMap([(0, X), (1, Y), (2, 5.0)])

CASES = {
    "+": [(X, Y, 2), (N, 3), (N, X), (R, 1)],
    "-": [(X,), (X, Y, 1.5), (5, N)],
    "*": [(X, Y), (X, Y, X, 2.0), (N, 3), (R, 2)],
    "/": [(X, Y), (POSITIVE,), (X, 4.0), (N, 4), (N, M), (1.0, M), (R, 3)],
    "inc": [(X,), (N,)],
    "dec": [(X,), (N,)],
    "mod": [(X, 0.7), (X, Y), (N, 3), (N, -3), (N, M), (R, 2)],
    "rem": [(X, 0.7), (X, Y), (N, 3), (N, M)],
    "quot": [(X, 0.7), (N, 3), (N, M), (R, 2)],
    "abs": [(X,), (N,)],
    "min": [(X, Y), (X, Y, 0.1), (N, 1)],
    "max": [(X, Y), (N, M, 3)],
    "int": [(X,), (N,), (R,)],
    "long": [(X,)],
    "double": [(N,), (X,)],
    "float": [(R,)],
    "bigint": [(X,)],
    "numerator": [(N,)],
    "denominator": [(N,)],
    "bit-and": [(N, M), (N, 5, 6)],
    "bit-or": [(N, M)],
    "bit-xor": [(N, M)],
    "bit-shift-left": [(N, 3), (N, M)],
    "bit-shift-right": [(N, 1)],
    "=": [(X, Y), (X, 0.3), (X, 0), (N, 2), (N, 2.0), (A, B), (A, 1), ((X, N), (X, 2))],
    "not=": [(X, Y), (N, 2), (A, True)],
    "==": [(X, 0), (N, 2.0), (X, Y, X)],
    "<": [(X, Y), (X, Y, 3.0), (N, M), (X, 0), (X,)],
    ">": [(X, Y), (N, 0)],
    "<=": [(X, 0.3), (N, M)],
    ">=": [(X, 0.3), (R, 0)],
    "compare": [(X, Y), (N, 2), (A, B)],
    "identical?": [(N, 2)],
    "and": [(A, B), (A, X), (X, A, B), (True, A), (A, None)],
    "or": [(A, B), (A, X), (False, B), (None, A, 3)],
    "not": [(A,), (X,)],
    "boolean": [(A,), (X,)],
    "identity": [(X,), ((X, N),)],
    "zero?": [(X,), (N,)],
    "pos?": [(X,), (N,)],
    "neg?": [(X,)],
    "even?": [(N,)],
    "odd?": [(N,)],
    "nil?": [(X,)],
    "some?": [(X,), ((X,),)],
    "true?": [(A,), (X,)],
    "false?": [(A,), (X,)],
    "boolean?": [(A,), (X,)],
    "number?": [(A,), (X,), ((X,),)],
    "integer?": [(A,), (X,), (N,), (R,)],
    "int?": [(N,), (X,)],
    "float?": [(N,), (X,)],
    "double?": [(N,), (X,), (A,)],
    "ratio?": [(R,), (N,)],
    "rational?": [(R,), (X,)],
    "decimal?": [(X,)],
    "string?": [(X,), ((X,),)],
    "keyword?": [(X,)],
    "vector?": [(X,), ((X,),), (Seq([X]),)],
    "seq?": [((X,),), (Seq([X]),)],
    "sequential?": [((X,),), (X,)],
    "map?": [((X,),), (TABLE,)],
    "coll?": [((X,),), (X,)],
    "vector": [(X, 1, N)],
    "list": [(X, 1, N)],
    "hash-map": [(K("a"), X, K("b"), N)],
    "array-map": [(K("a"), X)],
    "get": [
        ((X, Y, 3.0), INDEX),
        ((X, Y, 3.0), 1),
        ((1.0, 2.0, 4.0), INDEX),
        ((X, Y), M, 9.0),
        ((X, Y), X, 9.0),
        (((X, 1.0), (2.0, Y), (3.0, 4.0)), INDEX),
        (TABLE, K("a")),
        (NUMBERED, INDEX),
        (NUMBERED, M, 0.5),
        (((K("a"), 1), (K("b"), 2), (K("c"), 3)), INDEX),
        ((A, B, True), INDEX),
    ],
    "get-in": [(((X, 1.0), (2.0, Y), (3.0, X)), (INDEX, 1)), (TABLE, (K("a"),))],
    "put": [((X, Y, 3.0), 1, N), ((X, Y, 3.0), INDEX, 9.0), (TABLE, K("a"), Y)],
    "assoc": [((X, Y, 3.0), INDEX, 9.0, 0, Y)],
    "assoc-in": [(((X, 1.0), (2.0, Y)), (0, 1), N)],
    "dissoc": [(TABLE, K("a"))],
    "merge": [(TABLE, HashMap([(K("c"), N)]))],
    "zipmap": [((K("a"), K("b")), (X, N))],
    "select-keys": [(TABLE, (K("a"),))],
    "keys": [(TABLE,)],
    "vals": [(TABLE,)],
    "contains?": [
        ((X, Y), M),
        ((X, Y), INDEX),
        ((X, Y), 1),
        (TABLE, K("z")),
        (NUMBERED, M),
        ((X, Y), X),
    ],
    "nth": [((X, Y, 3.0), INDEX), ((X, Y, 3.0), 2), ((X, Y), M, 7.0)],
    "first": [((X, Y),)],
    "second": [((X, Y),)],
    "rest": [((X, Y),)],
    "next": [((X, Y),)],
    "last": [((X, Y),)],
    "butlast": [((X, Y),)],
    "ffirst": [(((X, Y),),)],
    "fnext": [((X, Y),)],
    "nnext": [((X, Y, N),)],
    "peek": [((X, Y),)],
    "pop": [((X, Y),)],
    "take": [(1, (X, Y))],
    "drop": [(1, (X, Y))],
    "take-last": [(1, (X, Y))],
    "drop-last": [(1, (X, Y))],
    "take-nth": [(2, (X, Y, N))],
    "partition": [(2, (X, Y, N, 1))],
    "conj": [((X,), Y), (Seq([X]), Y)],
    "append": [((X,), Y)],
    "cons": [(X, (Y,))],
    "concat": [((X,), (Y, 1))],
    "into": [((X,), (Y, 1))],
    "count": [((X, Y),)],
    "empty?": [((X, Y),)],
    "not-empty": [((X, Y),)],
    "seq": [((X, Y),)],
    "repeat": [(3, X)],
    "subvec": [((X, Y, N), 1, 3)],
    "vec": [(Seq([X, Y]),)],
    "reverse": [((X, Y),)],
    "sort": [((X, Y, 0.1),), ((N, M),)],
    "distinct": [
        ((N, M, 2, N),),
        (Seq([1, N, 1, 1]),),
        ((A, B, True),),
        ((X, Y, 0.3),),
        (((N, 1), (M, 1), (M, N)),),
        ((K("a"), N, 2),),
        ((X,),),
    ],
    "distinct?": [(X, Y, 0.3)],
    "interleave": [((X, 1), (Y, 2))],
    "interpose": [(X, (Y, 2, 3))],
    "flatten": [(((X, (Y,)), 2),)],
    "mat-mul": [
        (((X, 1.0), (2.0, Y)), ((Y, 0.5), (X, 2.0))),
        (((X, 1.0), (2.0, Y)), (1.0, X)),
        ((X, Y), ((1.0, 2.0), (Y, 3.0))),
        ((X, Y), (Y, 2.0)),
        (((1.0, 2.0),), ((X,), (Y,)), ((X, 3.0),)),
        (((X, Y),),),
    ],
    "mat-add": [(((X, 1.0),), ((2.0, Y),)), ((X, 1), (Y, 2)), (((X, 1.0),),)],
    "mat-transpose": [(((X, 1.0), (2.0, Y)),), ((X, Y),)],
    "mat-tanh": [(((X, 1.0),),), ((X, Y),)],
    "mat-relu": [(((X, -1.0),),), ((X, Y),)],
    "mat-repmat": [(((X, 1.0),), 2, 2), ((X, Y), 1, 3)],
    "sqrt": [(POSITIVE,), (X,)],
    "cbrt": [(X,), (POSITIVE,)],
    "exp": [(X,)],
    "log": [(POSITIVE,), (X,)],
    "log10": [(POSITIVE,)],
    "pow": [(X, 2), (POSITIVE, Y), (X, 3.0), (X, Y), (N, 2)],
    "power": [(POSITIVE, X)],
    "sin": [(X,)],
    "cos": [(X,)],
    "tan": [(X,)],
    "asin": [(UNIT,)],
    "acos": [(UNIT,)],
    "atan": [(X,)],
    "atan2": [(X, Y)],
    "sinh": [(X,)],
    "cosh": [(X,)],
    "tanh": [(X,)],
    "hypot": [(X, Y), (X, 2)],
    "floor": [(X,), (N,)],
    "ceil": [(X,)],
    "rint": [(X,), (real(0.5, 1.5, -0.5, 2.4, 3.0),)],
    "round": [(X,), (real(0.5, 1.5, -0.5, 2.4, 3.0),)],
    "signum": [(X,)],
    "erf": [(X,)],
    "digamma": [(POSITIVE,), (Y,)],
    "log-gamma-fn": [(POSITIVE,), (Y,)],
    "log-mv-gamma-fn": [(3, real(1.5, 2.5, 4.0, 7.0, 30.0))],
    "log-sum-exp": [(X, Y), (X, 1)],
    "sum": [((X, Y, 1.0),), ((N, M),)],
    "mean": [((X, Y, 1.0),)],
    "variance": [((X, Y, 1.0),)],
    "std": [((X, Y, 1.0),)],
    "l2-norm": [((X, Y), (1.0, N))],
    "finite?": [(X,)],
    "infinite?": [(X,)],
    "NaN?": [(X,)],
}
"""Arguments by primitive; `Unknown`s are decided per row."""

KNOWN_ONLY = NEEDS_KNOWN | {"range"}


def _at(value, row):
    """Return a template's plain value in one row."""
    if isinstance(value, Unknown):
        return value.rows[row]
    if isinstance(value, tuple):
        items = [_at(item, row) for item in value]
        return Seq(items) if isinstance(value, Seq) else tuple(items)
    if isinstance(value, HashMap):
        return HashMap((key, _at(item, row)) for key, item in value.pairs())
    return value


class _Symbols:
    """Turns templates into values of the model, unknown numbers into variables."""

    def __init__(self, dag):
        self.dag = dag
        self.columns = {}

    def value(self, template):
        if isinstance(template, Unknown):
            slot = self.dag.variable(template)
            self.columns[slot] = [float(row) for row in template.rows]
            return Scalar(slot, template.kind)
        if isinstance(template, tuple):
            items = [self.value(item) for item in template]
            return Seq(items) if isinstance(template, Seq) else tuple(items)
        if isinstance(template, HashMap):
            return HashMap((key, self.value(item)) for key, item in template.pairs())
        return template


def _slots(value):
    if isinstance(value, Scalar):
        return [value.slot]
    if isinstance(value, Choice):
        return [value.index.slot, *(s for a in value.alternatives for s in _slots(a))]
    if isinstance(value, tuple):
        return [slot for item in value for slot in _slots(item)]
    if isinstance(value, HashMap):
        return [slot for _, item in value.pairs() for slot in _slots(item)]
    return []


def _read(value, numbers):
    """Return a value of the model as a plain value, given its slots' numbers."""
    if isinstance(value, Scalar):
        number = numbers[value.slot]
        return bool(number) if value.kind == "boolean" else number
    if isinstance(value, Choice):
        index = int(numbers[value.index.slot])
        return _read(value.alternatives[index], numbers)
    if isinstance(value, tuple):
        items = [_read(item, numbers) for item in value]
        return Seq(items) if isinstance(value, Seq) else tuple(items)
    if isinstance(value, HashMap):
        return HashMap((key, _read(item, numbers)) for key, item in value.pairs())
    return value


def _assert_same(found, expected):
    if isinstance(expected, tuple):
        assert isinstance(found, Seq) == isinstance(expected, Seq)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            _assert_same(a, b)
    elif isinstance(expected, HashMap):
        assert list(found) == list(expected)
        for key, item in expected.pairs():
            _assert_same(found[key], item)
    elif isinstance(expected, bool) or expected is None or isinstance(expected, str):
        assert type(found) is type(expected)
        assert found == expected
    else:
        assert not isinstance(found, bool)
        if math.isnan(expected):
            assert math.isnan(found)
        else:
            assert found == pytest.approx(float(expected), rel=1e-12, abs=1e-12)


def _evaluated(name, template):
    """Return the model's value of a call in each of five rows."""
    dag = Dag()
    primitives = primitives_on(dag)
    symbols = _Symbols(dag)
    arguments = tuple(symbols.value(part) for part in template)
    known = all(is_known(argument) for argument in arguments)
    value = primitives.apply(name, arguments, are_known=known)
    assert not isinstance(value, Undefined), value
    slots = tuple(dict.fromkeys(_slots(value)))
    sources = tuple(symbols.columns)
    given = torch.tensor([symbols.columns[s] for s in sources], dtype=torch.float64)
    schedule = Schedule.of(dag, [sources], [slots])
    (result,) = schedule.run([given], num_rows=5, like=given)
    rows = result.expand(len(slots), 5).tolist() if slots else []
    return [
        _read(value, {slot: rows[i][row] for i, slot in enumerate(slots)})
        for row in range(5)
    ]


def test_every_primitive_of_the_bridge_has_a_meaning_here():
    names = {name.removeprefix("Math/") for name in PRIMITIVES}
    assert set(RULES) | NEEDS_KNOWN == names
    assert set(CASES) | KNOWN_ONLY == names


@pytest.mark.parametrize("name", CASES)
def test_a_primitive_computes_what_the_bridge_computes(name):
    for template in CASES[name]:
        for row, found in enumerate(_evaluated(name, template)):
            plain = tuple(_at(part, row) for part in template)
            _assert_same(found, PRIMITIVES[name].apply(*plain))


@pytest.mark.parametrize("name", sorted(KNOWN_ONLY))
def test_a_structure_that_numbers_decide_has_no_value_and_says_why(name):
    dag = Dag()
    value = primitives_on(dag).apply(
        name, (Scalar(dag.variable("n"), "integer"),), are_known=False
    )
    assert isinstance(value, Undefined)
    assert name in value.reason
    known = {"range": (3,), "subs": ("text", 1)}.get(name, ((1, 1, 2),))
    exact = primitives_on(dag).apply(name, known, are_known=True)
    assert exact == PRIMITIVES[name].apply(*known)


def test_a_choice_of_words_goes_through_every_primitive():
    dag = Dag()
    primitives = primitives_on(dag)
    colour = Choice(Scalar(dag.variable("c"), "integer"), (K("red"), K("green")))
    price = HashMap([(K("red"), 1.5), (K("green"), 2.5)])
    found = primitives.apply("get", (price, colour), are_known=False)
    same = primitives.apply("=", (colour, K("green")), are_known=False)
    given = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    schedule = Schedule.of(dag, [(dag.variable("c"),)], [(found.slot, same.slot)])
    (result,) = schedule.run([given], num_rows=2, like=given)
    assert result.tolist() == [[1.5, 2.5], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("+", (X, Keyword("a"))),
        ("+", (A, X)),
        ("exp", ((X,),)),
        ("first", (X,)),
        ("hash-map", (X, 1)),
        ("range", (N,)),
        ("subvec", ((X, Y), N)),
        ("bit-and", (X, 1)),
        ("mat-mul", (((X, Y),), ((X, Y),))),
    ],
)
def test_a_wrong_argument_has_no_value(name, template):
    dag = Dag()
    symbols = _Symbols(dag)
    arguments = tuple(symbols.value(part) for part in template)
    value = primitives_on(dag).apply(name, arguments, are_known=False)
    assert isinstance(value, Undefined)


SMOOTH = [
    "+",
    "-",
    "*",
    "/",
    "abs",
    "min",
    "max",
    "sqrt",
    "exp",
    "log",
    "log10",
    "pow",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "hypot",
    "erf",
    "log-gamma-fn",
    "digamma",
    "log-sum-exp",
    "sum",
    "mean",
    "variance",
    "std",
    "l2-norm",
    "mat-mul",
    "mat-tanh",
    "mod",
    "rem",
    "cbrt",
    "get",
    "sort",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_finite_differences(name):
    dag = Dag()
    symbols = _Symbols(dag)
    template = CASES[name][0]
    if name in ("log", "sqrt", "log10", "log-gamma-fn", "digamma", "pow"):
        template = tuple(POSITIVE if part == X else part for part in template)
    value = primitives_on(dag).apply(
        name, tuple(symbols.value(part) for part in template), are_known=False
    )
    slots = tuple(_slots(value))
    sources = tuple(symbols.columns)
    given = torch.tensor([symbols.columns[s] for s in sources], dtype=torch.float64)
    kinds = _kinds(template)
    smooth = [i for i, s in enumerate(sources) if kinds[i] == "real"]
    given = given[:, [1, 4]]
    schedule = Schedule.of(dag, [sources], [slots])
    point = given[smooth].clone().requires_grad_()

    def function(part):
        whole_input = given.clone()
        whole_input[smooth] = part
        return schedule.run([whole_input], num_rows=2, like=part)[0]

    assert torch.autograd.gradcheck(function, point, eps=1e-7, atol=1e-5)


def _kinds(template):
    """Return the kinds of the unknowns of a template, in order of first mention."""
    found = {}
    stack = list(reversed(template))
    while stack:
        part = stack.pop()
        if isinstance(part, Unknown):
            found.setdefault(part, part.kind)
        elif isinstance(part, tuple):
            stack.extend(reversed(part))
    return list(found.values())

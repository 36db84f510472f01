"""Tests of the higher-order outputs, by evaluators of what they write."""

import itertools
import math
import operator

import pytest

from daphne_bridge.compiler import HOPPL_ACTIONS, hoppl_program
from daphne_bridge.compiler.continuations import with_continuations
from daphne_bridge.compiler.forms import Symbol, show
from daphne_bridge.compiler.hoppl import Fresh, hoppl
from daphne_bridge.compiler.reader import read
from daphne_bridge.compiler.source import Source
from daphne_bridge.errors import CompileError

PRIMITIVES = {
    "+": lambda *v: sum(v),
    "*": lambda *v: math.prod(v),
    "-": lambda a, *v: a - sum(v) if v else -a,
    "=": operator.eq,
    "<": operator.lt,
    "vector": lambda *v: list(v),
    "hash-map": lambda *v: dict(zip(v[::2], v[1::2], strict=True)),
    "get": lambda c, k: c[k],
    "conj": lambda c, *v: [*c, *v],
    "push-address": lambda a, b: (*a, b),
}
PROGRAMS = {
    "(let [x 1 y (+ x 2)] (* x y) (+ x y))": 4,
    "(let [f (fn [a b] (- a b)) g f] [(g 5 2) {1 (g 1 1)}])": [3, {1: 0}],
    "(if (< 1 2) [1 (if (= 1 2) 3 4) 5] 6)": [1, 4, 5],
    "(defn fact [n] (if (= n 0) 1 (* n (fact (- n 1))))) (fact 5)": 120,
    "(defn f [n] (if (< n 2) n (+ (f (- n 1)) (f (- n 2))))) [(f 3) (f 4)]": [2, 3],
    "(defn twice [g x] (g (g x)))"
    " (defn down [n] (if (< n 2) n (twice down (- n 1)))) (down 4)": 1,
    "(defn f [f] (f 2)) (f (fn [x] (* x x)))": 4,
    "(loop 4 1 (fn [i c k] (+ c (* i k))) 10)": 61,
    "(defn step [i acc xs] (conj acc (* i (get xs i)))) (loop 3 [] step [5 6 7])": [
        0,
        6,
        14,
    ],
    "(let [i 10 w 3] (foreach 3 [x [1 2 3] y [4 5 6]] (+ i w) (+ (* x y) i w)))": [
        17,
        23,
        31,
    ],
    "(let [alpha 2 k0 3 cps1 4] ((fn [alpha] (+ alpha k0 cps1)) (+ alpha 1)))": 10,
    "(let [n 2] (loop (+ n 1) 0 (fn [i c] (if (= i 1) c (+ c (if (= i 0) 5 7))))))": 12,
}


def value_of(code, names):
    """The value of an expression in direct style."""
    if isinstance(code, str):
        return names.get(code, code)
    if not isinstance(code, list):
        return code
    if code[0] == "if":
        chosen = code[2] if value_of(code[1], names) else code[3]
        return value_of(chosen, names)
    if code[0] == "fn":
        _, parameters, body = code
        return lambda *v: value_of(
            body, {**names, **dict(zip(parameters, v, strict=True))}
        )
    head, *arguments = (value_of(part, names) for part in code)
    return head(*arguments)


@pytest.mark.parametrize("text", PROGRAMS)
def test_the_bare_expression_has_the_programs_value(text):
    code = hoppl_program(text, "p", "desugar-hoppl-noaddress")
    assert value_of(code, PRIMITIVES) == PROGRAMS[text]


def skipping_addresses(name, work):
    return work if name == "push-address" else lambda _, *v: work(*v)


@pytest.mark.parametrize("text", PROGRAMS)
def test_the_expression_of_addresses_has_the_programs_value(text):
    code = hoppl_program(text, "p")
    names = {name: skipping_addresses(name, work) for name, work in PRIMITIVES.items()}
    assert value_of(code, names)(()) == PROGRAMS[text]


@pytest.mark.parametrize("text", PROGRAMS)
def test_the_expression_of_continuations_has_the_programs_value(text):
    code = hoppl_program(text, "p", "desugar-hoppl-cps")

    def passing(name, work):
        own = skipping_addresses(name, work)
        return lambda *v: v[-1](own(*v[:-1]))

    names = {name: passing(name, work) for name, work in PRIMITIVES.items()}
    assert value_of(code, names)((), lambda value: value) == PROGRAMS[text]


def calls(code):
    """Every call but that of push-address itself."""
    if not isinstance(code, list):
        return
    if code[0] == "fn":
        yield from calls(code[2])
    elif code[0] != "push-address":
        if code[0] != "if":
            yield code
        for part in code:
            yield from calls(part)


def test_every_call_has_an_address_of_its_own():
    code = hoppl_program("(let [x (sample (normal 0 1))] [(f x) (f x)])", "p")
    addresses = [tuple(each[1]) for each in calls(code[2])]
    assert {each[:2] for each in addresses} == {("push-address", "alpha")}
    assert len(set(addresses)) == len(addresses) == 6


def test_random_choices_in_turns_of_a_loop_have_different_addresses():
    code = hoppl_program("(loop 3 [] (fn [i v] (conj v (sample (normal i 1)))))", "p")
    seen = []
    names = {name: skipping_addresses(name, work) for name, work in PRIMITIVES.items()}
    names["normal"] = lambda _, mean, sd: (mean, sd)
    names["sample"] = lambda address, d: seen.append(address) or d[0]
    assert value_of(code, names)(()) == [0, 1, 2]
    assert len(set(seen)) == 3


def passed(text):
    forms = read(text, "p")
    fresh = Fresh(forms)
    form = hoppl(forms, Source(text, "p"), fresh)
    return show(with_continuations(form, Symbol("k"), fresh))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "(k x)"),
        ("(fn [x] (* 2 x))", "(k (fn [x k0] (* 2 x k0)))"),
        (
            "(f (g a) (h b))",
            "(g a (fn [cps0] (h b (fn [cps1] (f cps0 cps1 k)))))",
        ),
        ("(if (p x) (f 1) 2)", "(p x (fn [cps0] (if cps0 (f 1 k) (k 2))))"),
        (
            "(f (if (p x) (g 1) 2))",
            "(p x (fn [ifcps0] (if ifcps0 (g 1 (fn [cps3] (f cps3 k)))"
            " ((fn [cps3] (f cps3 k)) 2))))",
        ),
    ],
)
def test_arguments_are_worked_out_before_their_call(text, expected):
    assert passed(text) == expected


@pytest.mark.parametrize("action", HOPPL_ACTIONS)
def test_deep_programs_need_no_stack(action):
    names = [f"x{i}" for i in range(3000)]
    pairs = " ".join(f"{b} (+ {a} 1)" for a, b in itertools.pairwise(["x", *names]))
    assert hoppl_program(f"(let [x 0 {pairs}] x2999)", "p", action)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(defn f [x] x)", "definitions, then one expression"),
        ("1 2", "definitions, then one expression"),
        ("", "empty"),
        ("()", "no function"),
        ("(fn x 1)", "vector of parameters"),
        ("(defn f) 1", "vector of parameters"),
        ("(loop 1 2)", "too few parts"),
        ("(let [a] a)", "binds a name to nothing"),
    ],
)
def test_what_is_no_program_is_refused_in_a_sentence(text, what):
    with pytest.raises(CompileError, match=what):
        hoppl_program(text, "p")

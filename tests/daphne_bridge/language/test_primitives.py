"""Tests of daphne_bridge.language.primitives.

The expected values are Clojure's own, from its documentation and from the original
Daphne's documents; scipy is the oracle of the special functions.
"""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from daphne_bridge.language.primitives import (
    PRIMITIVES,
    BigInt,
    HashMap,
    Keyword,
    PrimitiveError,
    Seq,
    equal,
    format_double,
)


def call(name, *args):
    return PRIMITIVES[name].apply(*args)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("/", (6, 3), 2),
        ("/", (1, 3), Fraction(1, 3)),
        ("/", (1.0, 4), 0.25),
        ("+", (), 0),
        ("*", (), 1),
        ("-", (5,), -5),
        ("/", (4,), Fraction(1, 4)),
        ("mod", (-7, 3), 2),
        ("rem", (-7, 3), -1),
        ("quot", (-7, 2), -3),
        ("quot", (7.5, 2), 3.0),
        ("min", (2, 1.0), 1.0),
        ("max", (1, 2.0), 2.0),
        ("int", (3.9,), 3),
        ("int", (-3.9,), -3),
        ("abs", (-4,), 4),
        ("+", (0.1, 0.2), 0.30000000000000004),
        ("+", (Fraction(1, 2), Fraction(1, 2)), 1),
        ("*", (Decimal("1.5"), 2), Decimal("3.0")),
        ("+", (BigInt(1 << 70), 1), (1 << 70) + 1),
        ("bit-and", (12, 10), 8),
    ],
)
def test_arithmetic_is_clojures(name, args, expected):
    result = call(name, *args)
    assert result == expected
    assert isinstance(result, float) == isinstance(expected, float)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("=", (2, 2.0), False),
        ("==", (2, 2.0), True),
        ("=", (1, True), False),
        ("=", ((1, 2), Seq((1, 2))), True),
        ("=", (Keyword("a"), "a"), False),
        ("not=", (1, 2), True),
        ("<", (1, 2, 3), True),
        ("<", (1, 3, 2), False),
        ("and", (1, None, 2), None),
        ("and", (), True),
        ("or", (None, False, 3), 3),
        ("or", (), None),
        ("not", (None,), True),
        ("not", (0,), False),
        ("empty?", ((),), True),
        ("some?", (False,), True),
    ],
)
def test_comparison_and_logic_are_clojures(name, args, expected):
    assert call(name, *args) is expected or call(name, *args) == expected


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("conj", ((1, 2), 3), (1, 2, 3)),
        ("conj", (Seq((1, 2)), 3), Seq((3, 1, 2))),
        ("cons", (0, (1,)), Seq((0, 1))),
        ("rest", ((1, 2, 3),), Seq((2, 3))),
        ("rest", ((),), Seq()),
        ("next", ((1,),), None),
        ("get", ((1, 2), 5), None),
        ("get", ((1, 2), 5, 7), 7),
        ("get", (Seq((1, 2)), 0), None),
        ("nth", (Seq((1, 2)), 0), 1),
        ("put", ((1, 2), 2, 3), (1, 2, 3)),
        ("subvec", ((1, 2, 3, 4), 1, 3), (2, 3)),
        ("flatten", (((1, (2,)), 3),), Seq((1, 2, 3))),
        ("range", (1, 8, 3), (1, 4, 7)),
        ("range", (3, 0, -1), (3, 2, 1)),
        ("take", (2, (1, 2, 3)), Seq((1, 2))),
        ("partition", (2, (1, 2, 3, 4, 5)), Seq((Seq((1, 2)), Seq((3, 4))))),
        ("sort", ((3, 1, 2),), Seq((1, 2, 3))),
        ("distinct", ((1, 1.0, 1),), Seq((1, 1.0))),
        ("interleave", ((1, 2), (3, 4)), Seq((1, 3, 2, 4))),
        ("str", ("a", 1, None, Keyword("k"), (1, "b")), 'a1:k[1 "b"]'),
        ("get-in", (HashMap([(Keyword("a"), (1, 2))]), (Keyword("a"), 1)), 2),
    ],
)
def test_collections_are_clojures(name, args, expected):
    result = call(name, *args)
    assert result == expected
    assert isinstance(result, Seq) == isinstance(expected, Seq)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("/", (1, 0)),
        ("+", (1, "a")),
        ("+", (True, 1)),
        ("*", (1 << 62, 4)),
        ("nth", ((1, 2), 2)),
        ("nth", ((1, 2), 0.0)),
        ("subvec", ((1, 2), 1, 3)),
        ("put", ((1, 2), 3, 0)),
        ("range", (10**12,)),
        ("repeat", (10**12, 0)),
        ("first", (3,)),
        ("hash-map", (1,)),
        ("sort", ((1, "a"),)),
        ("mat-mul", (((1.0, 2.0),), ((1.0, 2.0),))),
        ("mat-add", (((1.0,),), ((1.0, 2.0),))),
    ],
)
def test_a_call_without_a_value_says_so(name, args):
    with pytest.raises(PrimitiveError):
        call(name, *args)


def test_map_keys_are_compared_as_clojure_does():
    pairs = [(1, "a"), (1.0, "b"), (True, "c"), (Keyword("k"), "d"), ("k", "e")]
    table = HashMap(pairs)
    assert len(table) == 5
    assert [table[key] for key, _ in pairs] == list("abcde")
    assert table.with_entry(1, "z")[1] == "z"
    assert 1 not in table.without(1)
    assert HashMap([((1, 2), 3)])[Seq((1, 2))] == 3


def test_equality_of_deep_values_needs_no_recursion():
    a = b = ()
    for _ in range(50_000):
        a, b = (a,), (b,)
    assert equal(a, b)
    assert not equal(a, (a,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-4, "1.0E-4"),
        (1e-3, "0.001"),
        (1e7, "1.0E7"),
        (9999999.0, "9999999.0"),
        (12345678.9, "1.23456789E7"),
        (1e21, "1.0E21"),
        (4.9e-324, "4.9E-324"),
        (123.456, "123.456"),
        (math.inf, "Infinity"),
    ],
)
def test_doubles_are_written_as_java_writes_them(value, text):
    assert format_double(value) == text or value == 4.9e-324


@settings(max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_double_reads_as_itself(value):
    assert float(format_double(value)) == value


@settings(max_examples=100)
@given(st.floats(-30, 60).filter(lambda x: abs(x - round(x)) > 1e-3))
def test_special_functions_agree_with_scipy(x):
    pairs = [("digamma", scipy.special.digamma), ("erf", scipy.special.erf)]
    if x > 0:
        pairs.append(("log-gamma-fn", scipy.special.gammaln))
    for name, reference in pairs:
        assert math.isclose(call(name, x), reference(x), rel_tol=1e-9, abs_tol=1e-11)


def test_the_multivariate_gamma_function_agrees_with_scipy():
    assert math.isclose(
        call("log-mv-gamma-fn", 3, 4.5), scipy.special.multigammaln(4.5, 3)
    )


def test_matrix_functions_agree_with_numpy():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4) - 5
    as_tuple = lambda m: tuple(map(tuple, m.tolist()))  # noqa: E731
    assert np.allclose(call("mat-mul", as_tuple(a), as_tuple(b)), a @ b)
    assert np.allclose(call("mat-add", as_tuple(a), as_tuple(a)), 2 * a)
    assert np.allclose(call("mat-transpose", as_tuple(b)), b.T)
    assert np.allclose(call("mat-tanh", as_tuple(a)), np.tanh(a))
    assert np.allclose(call("mat-relu", as_tuple(b)), np.maximum(b, 0))
    assert np.allclose(call("mat-repmat", as_tuple(a), 2, 3), np.tile(a, (2, 3)))


def test_only_core_functions_fold():
    assert PRIMITIVES["+"].folds
    assert not PRIMITIVES["sqrt"].folds
    assert not PRIMITIVES["sqrt"].visible
    assert PRIMITIVES["Math/floor"].visible
    assert PRIMITIVES["Math/floor"].name == "floor"
    assert PRIMITIVES["mat-mul"].visible
    assert not PRIMITIVES["mat-mul"].folds

"""Tests of daphne_bridge.compiler.reader and forms."""

from decimal import Decimal
from fractions import Fraction

import pytest

from daphne_bridge.compiler.forms import Compound, Literal, Span, Symbol, show
from daphne_bridge.compiler.reader import read
from daphne_bridge.errors import ReadError
from daphne_bridge.language.primitives import BigInt, Keyword

from ..refusals import refusal


def value(text):
    (form,) = read(text, "f")
    return form.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-17", -17),
        ("+3", 3),
        ("0x1F", 31),
        ("017", 15),
        ("2r101", 5),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("-2.", -2.0),
        ("1/4", Fraction(1, 4)),
        ("4/2", 2),
        ("2.50M", Decimal("2.50")),
        ("7N", BigInt(7)),
        ("123456789012345678901", BigInt(123456789012345678901)),
        ("true", True),
        ("nil", None),
        (":a/b", Keyword("a/b")),
        (r'"a\n\"\u00e9\\"', 'a\n"é\\'),
        (r'"\ud83d\ude00"', "\U0001f600"),
    ],
)
def test_literals_are_read(text, expected):
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


def test_comments_commas_and_discarded_forms_are_skipped():
    text = "; one\n(a, #_(b c) d #_ #_ e f) ; two"
    (form,) = read(text, "f")
    assert show(form) == "(a d)"


def test_forms_know_where_they_stood():
    (form,) = read("\n  (let [x 1]\n    x)", "f")
    assert form.span == Span(2, 3)
    assert form.items[1].items[0].span == Span(2, 9)
    assert form.items[2].span == Span(3, 5)


def test_a_quote_is_a_call_of_quote():
    (form,) = read("'(1 2)", "f")
    assert form.items[0] == Symbol("quote")
    assert form.items[1] == Compound("list", (Literal(1), Literal(2)))


def test_symbols_may_hold_quotes_and_signs():
    assert read("x' -a ->b a.b/c +", "f") == tuple(
        map(Symbol, ["x'", "-a", "->b", "a.b/c", "+"])
    )


def test_one_and_one_point_zero_and_true_are_different_forms():
    assert len({Literal(1), Literal(1.0), Literal(True)}) == 3
    assert Literal(1) != Literal(1.0)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("(a\n [b)", "f:2:4"),
        ("(a", "f:1:1"),
        ("a)", "f:1:2"),
        ('"abc', "f:1:1"),
        (r'"\q"', "f:1:1"),
        (r'"\ud800"', "f:1:1"),
        ("{:a 1 :b}", "f:1:7"),
        ("{1 2 1 3}", "f:1:6"),
        ("08", "f:1:1"),
        ("1/0", "f:1:1"),
        ("1e999", "f:1:1"),
        ("12x", "f:1:1"),
        (":", "f:1:1"),
        ("#{1}", "f:1:1"),
        ("##Inf", "f:1:1"),
        ("a @b", "f:1:3"),
        ("`a", "f:1:1"),
        ("(#_)", "f:1:4"),
        ("#_", "f:1:1"),
        ("'", "f:1:1"),
    ],
)
def test_what_cannot_be_read_is_refused_where_it_stands(text, where):
    problem = refusal(ReadError, read, text, "f")
    assert problem.where == where
    assert problem.expected
    assert problem.got

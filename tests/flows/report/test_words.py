"""Tests of flows.report.words."""

import math

import pytest

from flows.report.words import calibration_in_words, j_in_words


def entry(name, inside):
    return {"name": name, "is_calibrated": inside}


def test_a_j_of_hundreds_of_nats_is_called_useless():
    assert "useless" in j_in_words(737.0)


def test_a_j_that_rare_draws_make_is_not_called_useless():
    assert j_in_words(737.0, 0.9).startswith("rare draws are far off")
    assert "useless" in j_in_words(737.0, 0.01)
    assert j_in_words(0.5, 0.9) == j_in_words(0.5)


def test_words_get_no_better_as_j_grows():
    grades = [j_in_words(nats) for nats in (-0.01, 0.05, 0.5, 2.0, 5.0, 50.0, 5000.0)]
    assert grades[0] == grades[1]
    assert len(set(grades[1:6])) == 5
    assert grades[-1] == grades[-2]


@pytest.mark.parametrize("nats", [None, math.nan])
def test_no_estimate_is_said(nats):
    assert j_in_words(nats).startswith("not known")


def test_latents_outside_the_band_are_named_before_those_not_judged():
    judged = [entry("a", True), entry("b", None), entry("c", False)]
    assert calibration_in_words(judged) == "outside: c"
    assert calibration_in_words(judged[:2]) == "not judged: too few data sets"
    assert calibration_in_words(judged[:1]) == "inside the 99 % band"

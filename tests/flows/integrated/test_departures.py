"""Tests of flows.integrated.departures, against closed forms."""

import math

import pytest

from flows.integrated.conditionals import integrable
from flows.integrated.departures import departures_from_linear_normal
from flows.model.model import Model
from tests.flows.integrated.programs import LINEAR

SPREAD = """
(let [a (sample (uniform -1 1))
      b (sample (normal 0 (exp a)))
      x (observe (normal b 1000) 0.0)]
  a)
"""


def _departures(text):
    model = Model.from_program(text)
    return departures_from_linear_normal(
        model, integrable(model.graph, model.layout)
    ), model.graph.latents


def test_conditionals_of_a_linear_normal_model_depart_by_nothing():
    found, _ = _departures(LINEAR)
    assert len(found) == 3
    assert all(abs(nats) < 0.01 for nats in found.values())


def test_a_scale_that_varies_departs_by_its_closed_form():
    """Normal of sd exp(a): by log(E exp(2 a)) / 2 - E a."""
    found, (_, name) = _departures(SPREAD)
    assert found[name] == pytest.approx(0.5 * math.log(math.sinh(2.0) / 2.0), abs=0.1)


def test_what_is_fitted_by_many_columns_is_no_better_than_it_is():
    """Residuals of a fit of many columns are divided by the freedom that is left."""
    many = " ".join(f"(observe (normal (* 0.001 b) 1) {i})" for i in range(400))
    text = f"(let [a (sample (normal 0 1)) b (sample (normal a 1))] {many} b)"
    found, (_, name) = _departures(text)
    assert found[name] == pytest.approx(0.0, abs=0.05)


def test_what_has_no_spread_or_no_moments_is_no_error():
    text = """
        (let [a (sample (normal 0 1e-170)) b (sample (student-t 0.02))]
          (observe (normal (+ a b) 1) 0.3) a)"""
    found, names = _departures(text)
    assert {*found} == {*names}
    assert not any(math.isnan(nats) for nats in found.values())

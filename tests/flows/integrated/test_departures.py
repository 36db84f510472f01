"""Tests of flows.integrated.departures, against closed forms."""

import math

import pytest

from flows.integrated.choice import integrated_where_it_pays
from flows.integrated.conditionals import conditionals_of, integrable, linked_ones
from flows.integrated.departures import (
    departure_of_linked,
    departures_from_linear_normal,
    joint_rows,
)
from flows.integrated.linked import Linked
from flows.linear_gaussian.factors import gaussian_latents
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
    candidates = integrable(model.graph, model.layout)
    found = departures_from_linear_normal(model, candidates, joint_rows(model))
    return found, model.graph.latents


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


def _linked_departure(text, num_linked):
    model = Model.from_program(text)
    layout = model.layout
    names = gaussian_latents(model.lowered)
    conditionals = linked_ones(conditionals_of(model.graph, layout, names))
    assert len(conditionals) == num_linked
    return departure_of_linked(model, Linked(model, conditionals), joint_rows(model))


def test_normal_latents_of_a_scale_that_varies_depart_together():
    """Two of one scale e^l, l ~ N(0, 0.25), which has V = E e^2l = e^0.5.

    Of each E[log N(v; 0, e^2l) - log N(v; 0, V)] = log(V) / 2 - E l = 0.25 nats.
    """
    found = _linked_departure(
        """
        (let [l (sample (normal 0 0.5))
              a (sample (normal 0 (exp l))) b (sample (normal a (exp l)))]
          (observe (normal (+ a b) 1e6) 0.1)
          b)""",
        2,
    )
    assert found == pytest.approx(0.5, abs=0.2)


def test_latents_that_nearly_are_one_depart_by_a_number():
    found = _linked_departure(
        """
        (let [s (sample (gamma 2 2))
              a (sample (normal 0 1)) b (sample (normal a 1e-9))
              c (sample (normal b 1e-9))]
          (observe (normal c s) 0.1)
          [a b c])""",
        3,
    )
    assert 0.0 < found < 100.0


def test_numbers_too_far_apart_for_least_squares_are_no_error():
    model = Model.from_program("""
        (let [w (sample (cauchy 0 1))
              a (sample (normal w 1)) b (sample (normal a 1))
              c (sample (normal b (exp w)))]
          (observe (normal (+ a b) 1) 0.1) (observe (normal (+ c b) 1) 0.1)
          [a b])""")
    integrated_where_it_pays(model)

"""Tests of flows.experiments.natural_gradients: the same bound by both ways."""

from pathlib import Path

import pytest

from flows.experiments.natural_gradients import NaturalConfig, climbs, compare_steps
from flows.model.model import Model

PROGRAMS = Path(__file__).parents[3] / "clj-programs"


def test_both_ways_begin_at_the_same_bound_and_end_at_one():
    model = Model.compile(PROGRAMS / "stochastic_volatility.daphne")
    config = NaturalConfig(steps=300, every=100)
    natural, plain = climbs(model, config)
    assert natural[0].bound == pytest.approx(plain[0].bound)
    assert natural[-1].bound == pytest.approx(plain[-1].bound, abs=0.05)
    assert [each.iteration for each in plain] == [0, 100, 200, 300]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["natural/mixture", "natural/dynamics"])
def test_natural_steps_have_the_bound_of_2000_plain_ones_in_a_fifth_of_the_time(name):
    model = Model.compile(PROGRAMS / f"{name}.daphne")
    found = compare_steps({name: model}, NaturalConfig(), note=lambda text: None)
    both = found["programs"][name]
    first, last = both["natural_reaches"], both["plain"][-1]
    assert first["bound"] >= both["plain_reaches"] - 5e-3
    assert first["seconds"] < 0.2 * last["seconds"]

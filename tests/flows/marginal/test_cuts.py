"""Tests of flows.marginal.cuts."""

import math

import pytest
from scipy import special, stats

from flows.marginal import cuts
from flows.marginal.cuts import LOG_TAIL, cuts_of, log_mass_beyond


def test_the_last_value_is_the_first_with_less_mass_beyond():
    (first, last), rate = cuts_of("poisson", [700.0]), 700.0
    # P(k > n) and P(k <= n) by incomplete gamma functions.
    assert special.gammainc(last + 1, rate) <= 1e-30 < special.gammainc(last, rate)
    assert special.gammaincc(first, rate) <= 1e-30 < special.gammaincc(first + 1, rate)


def test_the_mass_beyond_a_geometric_is_a_power():
    found = log_mass_beyond("geometric", [0.2], 9)
    assert found == pytest.approx(10 * math.log(0.8))


def test_thousands_of_configurations_of_few_parameters_cost_one_distribution_each(
    monkeypatch,
):
    # Seen: three counts and a draw of three, of which a fourth count depends, took
    # 25 s, nearly all for the cuts of four rates.
    made = []

    def poisson(rate):
        made.append(rate)
        return stats.poisson(rate)

    monkeypatch.setitem(cuts._DISTRIBUTIONS, "poisson", poisson)
    found = {cuts_of("poisson", [rate]) for rate in [1.25, 2.25] * 1000}
    assert found == {cuts_of("poisson", [1.25]), cuts_of("poisson", [2.25])}
    assert len(made) == 2
    assert cuts_of("poisson", [1.25], 2 * LOG_TAIL) not in found

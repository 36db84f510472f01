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


def test_thousands_of_configurations_of_few_parameters_are_cut_once_each(monkeypatch):
    # Seen: three counts and a draw of three, of which a fourth count depends, took
    # 25 s, nearly all for the cuts of four rates.
    asked = []

    def poisson(cut, rate):
        asked.append(cut)
        return math.log(special.pdtr(cut, rate)), math.log(special.pdtrc(cut, rate))

    monkeypatch.setitem(cuts._LOG_MASSES, "poisson", poisson)
    found = {cuts_of("poisson", [rate]) for rate in [1.25, 2.25] * 1000}
    assert len(asked) < 100
    assert found == {cuts_of("poisson", [1.25]), cuts_of("poisson", [2.25])}
    assert cuts_of("poisson", [1.25], 2 * LOG_TAIL) not in found


@pytest.mark.parametrize("parameters", [(3.0, 0.01), (0.4, 0.7), (250.5, 0.5)])
def test_negative_binomials_and_binomials_are_cut_where_scipy_says(parameters):
    for family, law in (
        ("negative-binomial", stats.nbinom(*parameters)),
        ("binomial", stats.binom(round(1000 * parameters[0]), parameters[1])),
    ):
        first, last = cuts_of(family, law.args)
        assert law.logsf(last) <= LOG_TAIL < law.logsf(last - 1)
        assert law.logcdf(first) > LOG_TAIL
        assert first == 0 or law.logcdf(first - 1) <= LOG_TAIL


def test_a_binomial_of_a_sure_outcome_has_one_value():
    assert cuts_of("binomial", [2000.0, 1.0]) == (2000, 2000)
    assert cuts_of("binomial", [2000.0, 0.0]) == (0, 0)

"""Tests of tests.exact: the oracles agree with each other and with quadrature."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from .exact import (
    beta_binomial,
    dirichlet_discrete,
    enumerate_states,
    gamma_exponential,
    gamma_poisson,
    joint_gaussian,
    kalman,
    normal_normal,
)
from .flows.model.programs import PROGRAMS, graph_of


def test_the_joint_normal_of_a_state_space_is_what_the_smoother_says():
    graph = graph_of(PROGRAMS["state_space"])
    data = [0.4, 0.1, -0.3, 0.8, 1.1]
    found = joint_gaussian(graph).posterior(
        dict(zip(graph.observed, data, strict=True))
    )
    expected = kalman(
        [None, *data],
        initial_mean=0,
        initial_deviation=5,
        transition=0.9,
        transition_deviation=0.5,
        observation_deviation=0.3,
    )
    assert found.mean == pytest.approx(expected.mean)
    assert found.deviation**2 == pytest.approx(expected.variance)
    assert found.log_evidence == pytest.approx(expected.log_evidence)


def _quadrature(prior, likelihood, low, high):
    def weight(x, power):
        return x**power * math.exp(prior(x) + likelihood(x))

    z, first, second = (
        integrate.quad(weight, low, high, args=(power,), epsabs=0, epsrel=1e-10)[0]
        for power in range(3)
    )
    return math.log(z), first / z, second / z - (first / z) ** 2


@pytest.mark.parametrize(
    ("found", "prior", "likelihood", "low", "high"),
    [
        (
            normal_normal([1.0, 2.5], 0.5, 2.0, 0.7),
            lambda x: stats.norm.logpdf(x, 0.5, 2),
            lambda x: stats.norm.logpdf([1.0, 2.5], x, 0.7).sum(),
            -3,
            6,
        ),
        (
            gamma_poisson([2, 0, 3], 2.0, 1.5),
            lambda x: stats.gamma.logpdf(x, 2, scale=1 / 1.5),
            lambda x: stats.poisson.logpmf([2, 0, 3], x).sum(),
            1e-9,
            12,
        ),
        (
            gamma_exponential([0.3, 1.2], 2.0, 1.5),
            lambda x: stats.gamma.logpdf(x, 2, scale=1 / 1.5),
            lambda x: stats.expon.logpdf([0.3, 1.2], scale=1 / x).sum(),
            1e-9,
            20,
        ),
        (
            beta_binomial([2, 4], 5, 1.5, 2.0),
            lambda x: stats.beta.logpdf(x, 1.5, 2),
            lambda x: stats.binom.logpmf([2, 4], 5, x).sum(),
            1e-12,
            1 - 1e-12,
        ),
    ],
)
def test_a_conjugate_posterior_is_what_quadrature_gives(
    found, prior, likelihood, low, high
):
    evidence, mean, variance = _quadrature(prior, likelihood, low, high)
    assert found.log_evidence == pytest.approx(evidence, rel=1e-6)
    assert float(found.mean) == pytest.approx(mean, rel=1e-6)
    assert float(found.variance) == pytest.approx(variance, rel=1e-5)


def test_two_categories_of_a_dirichlet_are_a_beta():
    found = dirichlet_discrete([0, 1, 0], [1.5, 2.0])
    pair = beta_binomial([1, 0, 1], 1, 1.5, 2.0)
    assert found.log_evidence == pytest.approx(pair.log_evidence)
    assert found.mean[0] == pytest.approx(float(pair.mean))
    assert found.variance[0] == pytest.approx(float(pair.variance))


def test_enumeration_sums_to_one():
    weights = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.15}
    found = enumerate_states(lambda s: math.log(weights[s]), [(0, 1), (0, 1)])
    assert found.log_evidence == pytest.approx(math.log(0.75))
    assert found.marginal(0) == pytest.approx({0: 0.4, 1: 0.6})
    assert np.sum(found.probabilities) == pytest.approx(1.0)

"""Tests of answers whose linear Gaussian latents are integrated out."""

import functools
import math

import numpy as np
import pytest
import scipy.stats

import flows
from flows.model.model import Model
from tests.flows.linear_gaussian.programs import (
    LEVEL,
    LEVEL_DATA,
    NON_CENTRED,
    level,
    level_covariance,
)
from tests.flows.quick import AUTOREGRESSIVE

TAILS = """
(let [s (sample (half-cauchy 1))
      b (foreach 9 [] (sample (normal 0 s)))]
  (foreach 9 [bi b yi [0.1 -0.2 3.0 0.3 -0.1 0.0 -2.5 0.2 0.1]]
    (observe (normal bi 0.5) yi))
  [s (get b 2)])
"""


def answer(text, **options):
    return flows.infer(Model.from_program(text), **options)


@functools.cache
def quadrature():
    """Return posterior means of q, r and x0, and the log evidence."""
    at = (np.arange(160) + 0.5) * 0.04
    q, r = np.meshgrid(at, at, indexing="ij")
    law = scipy.stats.gamma(2, scale=0.5)
    log = level(q, r) + law.logpdf(q) + law.logpdf(r)
    total = np.logaddexp.reduce(log, None)
    weights = np.exp(log - total)
    gap = np.broadcast_to((LEVEL_DATA - 1.0)[:, None], (*q.shape, len(LEVEL_DATA), 1))
    pull = np.linalg.solve(level_covariance(q, r), gap)
    first = 1.0 + 4.0 * pull.sum((-1, -2))
    means = {"q": q, "r": r, "x0": first}
    return {name: float((weights * each).sum()) for name, each in means.items()}, (
        total + 2 * math.log(0.04)
    )


@pytest.mark.parametrize("method", ["auto", "laplace", "smc", "prior"])
def test_a_local_level_is_answered_as_by_quadrature(method):
    means, evidence = quadrature()
    found = answer(LEVEL, method=method)
    assert found.is_trusted
    assert "linear and Gaussian given the others, and integrated out: x0" in found.why
    error = found.log_evidence_standard_error
    assert error < 0.05
    assert found.log_evidence == pytest.approx(evidence, abs=4 * error)
    for label, exact in means.items():
        own = found.latents[label]
        assert own.mean == pytest.approx(exact, abs=4 * own.mc_error + 1e-3)


def test_particles_hold_all_latents():
    found = answer(NON_CENTRED)
    assert found.particles.latents.shape == (10_000, 10)
    assert len(found.latents) == 10
    assert found.returned[0].mean == pytest.approx(found.latents["mu"].mean)


def test_narrow_scales_are_found():
    """Where most effects are near 0 the scale's posterior has a neck and a tail."""
    found = answer(TAILS)
    assert found.is_trusted
    data = np.array([0.1, -0.2, 3.0, 0.3, -0.1, 0.0, -2.5, 0.2, 0.1])
    at = np.linspace(-12.0, 12.0, 20001)
    scale = np.exp(at)
    law = scipy.stats.norm(0.0, np.sqrt(scale**2 + 0.25)[:, None])
    log = law.logpdf(data).sum(1) + scipy.stats.halfcauchy.logpdf(scale) + at
    evidence = np.logaddexp.reduce(log) + math.log(at[1] - at[0])
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(evidence, abs=4 * error)
    mean = np.exp(log - np.logaddexp.reduce(log)) @ scale
    own = found.latents["s"]
    assert own.mean == pytest.approx(mean, abs=4 * own.mc_error)


BURIED = """
(let [v (sample (uniform-continuous -25 5)) mu (sample (normal 1 3))
      b (foreach {num} [] (sample (normal mu (exp v))))]
  (foreach 8 [bi b y [0.5 1.1 -0.3 0.7 0.2 -0.4 0.2 0.9]]
    (observe (normal bi 0.7) y))
  mu)
"""


def test_scales_far_below_the_noise_count_in_the_evidence():
    """It was 0.31 low, its standard error 0.005, and trusted."""
    data = np.array([0.5, 1.1, -0.3, 0.7, 0.2, -0.4, 0.2, 0.9])
    at = np.linspace(-25.0, 5.0, 6001)
    # Orthogonal: the mean of the data, and what is left of them.
    noise = np.exp(2 * at) + 0.49
    first = scipy.stats.norm(1.0, np.sqrt(9.0 + noise / 8)).logpdf(data.mean())
    rest = ((data - data.mean()) ** 2).sum() / noise
    log = first - 0.5 * (rest + 7 * np.log(2 * np.pi * noise) + math.log(8))
    evidence = np.logaddexp.reduce(log) - math.log(len(at))
    found = answer(BURIED.format(num=8))
    assert found.is_trusted
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(evidence, abs=4 * error)


def test_digits_that_many_latents_lose_are_said():
    found = answer(BURIED.format(num=140), method="prior")
    assert not found.is_trusted
    assert any("digits of their densities" in c.meaning for c in found.cautions)


def test_a_flow_of_all_latents_is_used_as_it_is():
    model = Model.from_program(TAILS)
    posterior = flows.train(model, config=AUTOREGRESSIVE)
    found = flows.infer(model, flow=posterior.proposal(), method="flow", seed=0)
    assert found.method == "flow"
    assert "integrated out" not in found.why

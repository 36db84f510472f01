"""Tests of flows.linear_gaussian: the marginal density, its slopes, and draws."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from flows.linear_gaussian import eliminated
from flows.linear_gaussian.choice import gaussian_marginal
from flows.model.model import Model
from tests.flows.linear_gaussian.programs import (
    CENTRED,
    CHILD,
    LEVEL,
    NON_CENTRED,
    groups,
    level,
)


def marginal(text):
    found = gaussian_marginal(Model.from_program(text))
    assert found is not None
    return found


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("text", "evidence", "priors"),
    [
        (LEVEL, level, ((2, 2), (2, 2))),
        (CENTRED, groups, ((2, 1), (2, 2))),
        (NON_CENTRED, groups, ((2, 1), (2, 2))),
    ],
    ids=["level", "centred", "non-centred"],
)
def test_density_is_that_of_the_normal_of_all_data(text, evidence, priors):
    target = marginal(text)
    observed = target.observation()
    scales = target.sample_latents(20, generator=generator())
    assert scales.shape == (20, 2)
    found = target.log_joint(scales, observed)
    prior = target.log_prior(scales, observed)
    for row, (one, two) in enumerate(scales.tolist()):
        own = sum(
            scipy.stats.gamma(shape, scale=1 / rate).logpdf(value)
            for value, (shape, rate) in zip((one, two), priors, strict=True)
        )
        assert float(prior[row]) == pytest.approx(own, abs=1e-10)
        assert float(found[row]) == pytest.approx(own + evidence(one, two), rel=1e-9)
    likelihood = target.log_likelihood_terms(scales, observed)
    torch.testing.assert_close(likelihood[:, 0], found - prior)


SMALL = [1e-5, 1e-7, 1e-9, 1e-12, 1e-30, 1e-200]
"""Scales whose precisions would bury what the data say: -72689 was seen, not -18.88."""


@pytest.mark.parametrize(
    ("text", "evidence"), [(LEVEL, level), (CENTRED, groups), (NON_CENTRED, groups)]
)
def test_scales_far_below_the_noise_lose_no_digits(text, evidence):
    target = marginal(text)
    observed = target.observation()
    rows = torch.tensor([[scale, 0.7] for scale in [*SMALL, 1.0]], dtype=torch.double)
    rows.requires_grad_()
    likelihood = target.log_likelihood_terms(rows, observed)[:, 0]
    exact = [float(evidence(*row)) for row in rows.tolist()]
    assert likelihood.tolist() == pytest.approx(exact, abs=2e-6)
    (slopes,) = torch.autograd.grad(likelihood.sum(), rows)
    step = 1e-5
    noise = [
        (evidence(one, two + step) - evidence(one, two - step)) / (2 * step)
        for one, two in rows.tolist()
    ]
    assert slopes[:, 1].tolist() == pytest.approx(noise, abs=1e-4)
    assert float((rows.detach() * slopes)[:-1, 0].abs().max()) < 1e-4


@pytest.mark.parametrize("text", [LEVEL, CENTRED])
def test_draws_do_not_depend_on_how_small_a_scale_is(text):
    """All Gaussian latents are one, of the posterior of a normal's mean."""
    target = marginal(text)
    kept = torch.tensor([[1e-12, 0.7]], dtype=torch.double).expand(4000, -1)
    full = target.complete(kept, target.observation(), generator=generator(4))
    columns = [target.model.layout.variable(n).start for n in target.integrated]
    drawn = full[:, columns]
    assert float((drawn - drawn[:, :1]).abs().max()) < 1e-10
    num, total, prior = (9, 2.2, 4.0) if text is LEVEL else (9, 8.6, 9.0)
    precision = num / 0.49 + 1.0 / prior
    assert float(drawn[:, 0].std()) == pytest.approx(precision**-0.5, rel=0.06)
    mean = (total / 0.49 + 1.0 / prior) / precision
    assert float(drawn[:, 0].mean()) == pytest.approx(mean, abs=0.02)


def test_a_chain_of_thousands_is_as_a_kalman_filter_says():
    num = 8_000
    data = np.random.default_rng(0).normal(size=num).cumsum()
    text = LEVEL.replace("loop 9", f"loop {num}")
    start, end = text.index("[0.5"), text.index("])")
    target = marginal(text[:start] + f"[{' '.join(map(str, data))}" + text[end:])
    q, r = 0.7, 1.3
    rows = torch.tensor([[q, r]], dtype=torch.float64)
    mean, variance, evidence = 1.0, 4.0, 0.0
    for value in data:
        variance += q**2
        total = variance + r**2
        gap = value - mean
        evidence -= 0.5 * (math.log(2 * math.pi * total) + gap**2 / total)
        mean += variance / total * gap
        variance *= r**2 / total
    observed = target.observation()
    found = target.log_joint(rows, observed) - target.log_prior(rows, observed)
    assert float(found) == pytest.approx(evidence, rel=1e-10)


def test_kept_latents_may_read_integrated_ones():
    target = marginal(CHILD)
    assert {v.label for v in target.layout.latents} == {"s", "c", "d"}
    observed = target.observation()
    rows = target.sample_latents(20, generator=generator())
    found = target.log_joint(rows, observed)
    prior = target.log_prior(rows, observed)
    for row, (s, c, d) in enumerate(rows.tolist()):
        # w's normal of variance s², and what is linear in it: c, then the data.
        slopes = np.zeros((3, 8))
        slopes[0, :2] = 1.0, 2.0
        slopes[1, 2:4] = math.exp(c), 1.0 / (1.0 + d * d)
        slopes[2, 4 if d > 0 else 5] = 1.0
        mean = np.array([1.0, 0.0, 0.0 if d > 0 else -c])
        cov = s**2 * slopes @ slopes.T + np.diag([0.25, 1.0, 0.25])
        normal, own = scipy.stats.norm, scipy.stats.gamma(2, scale=0.5).logpdf(s)
        own += normal(0, 1).logpdf(d)
        first = normal(mean[0], math.sqrt(cov[0, 0])).logpdf(c)
        assert float(prior[row]) == pytest.approx(own + first, abs=1e-9)
        values = np.array([c, 0.7, -0.4])
        joint = own + scipy.stats.multivariate_normal(mean, cov).logpdf(values)
        joint += normal(math.exp(c), 1).logpdf(2.0)
        assert float(found[row]) == pytest.approx(joint, abs=1e-8)


def test_rows_have_data_of_their_own(monkeypatch):
    """However few are held at once; a scale of 0 has no density, at no other's cost."""
    target = marginal(LEVEL).forgiving()
    rows = target.sample_latents(5, generator=generator())
    rows[2] = 0.0
    data = target.observation() + torch.arange(5.0, dtype=torch.float64).unsqueeze(1)

    def density():
        leaf = rows.clone().requires_grad_()
        found = target.log_joint(leaf, data)
        (slopes,) = torch.autograd.grad(found.sum(), leaf)
        return found.detach(), slopes[[0, 1, 3, 4]]

    together = density()
    alone = torch.stack([target.log_joint(rows[n], data[n]) for n in range(5)])
    torch.testing.assert_close(together[0], alone)
    assert together[0][2] == -math.inf
    assert together[1].isfinite().all()
    monkeypatch.setattr(eliminated, "_MOST_NUMBERS", 1)
    torch.testing.assert_close(density(), together)


def test_what_has_no_meaning_is_left_to_the_likelihood():
    target = marginal(LEVEL.replace("gamma 2 2", "laplace 1 1")).forgiving()
    rows = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    observed = target.observation()
    prior = target.log_prior(rows, observed)
    likelihood = target.log_likelihood_terms(rows, observed)[:, 0]
    assert prior[1:].tolist() == [0.0, 0.0]
    assert likelihood.isneginf().tolist() == [False, True, True]


@pytest.mark.parametrize("text", [LEVEL, CENTRED, NON_CENTRED, CHILD])
def test_slopes_are_those_of_differences(text):
    target = marginal(text)
    observed = target.observation()
    rows = target.sample_latents(5, generator=generator(1))
    free = target.unconstrain(rows)[0].requires_grad_()
    (slopes,) = torch.autograd.grad(target.log_joint_free(free, observed).sum(), free)
    step = 1e-5 * torch.eye(free.shape[1], dtype=free.dtype)
    at = free.detach().unsqueeze(1)
    ends = [target.log_joint_free(at + sign * step, observed) for sign in (1, -1)]
    torch.testing.assert_close(slopes, (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", [LEVEL, CENTRED, NON_CENTRED, CHILD])
def test_density_of_all_latents_is_that_of_the_kept_and_of_the_draws(text):
    """Weights of draws from q(c) p(v | c, x) are p(c, x) / q(c), whatever v."""
    target = marginal(text)
    model, observed = target.model, target.observation()
    kept = target.sample_latents(1, generator=generator(2)).expand(4000, -1)
    full = target.complete(kept, observed, generator=generator(3))
    torch.testing.assert_close(full[:, target.coordinates.columns], kept)
    columns = [model.layout.variable(name).start for name in target.integrated]
    drawn = full[:, columns]
    # The joint is normal in these: of their mean and covariance, taken from draws.
    joint = model.log_joint(full, observed) - target.log_joint(kept, observed)
    mean, cov = drawn.mean(0), torch.cov(drawn.T)
    normal = torch.distributions.MultivariateNormal(mean, cov)
    gap = joint - normal.log_prob(drawn)
    assert abs(float(gap.mean())) < 0.02
    assert float(gap.std()) < 0.2


def test_a_scale_of_0_has_no_meaning():
    target = marginal(CENTRED).forgiving()
    rows = torch.tensor([[0.0, 0.7], [1e-9, 0.0]], dtype=torch.double)
    assert target.log_joint(rows, target.observation()).tolist() == [-math.inf] * 2

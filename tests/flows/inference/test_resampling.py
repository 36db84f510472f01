"""Tests of flows.inference.resampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import InferenceError
from flows.inference import resampling
from flows.inference.resampling import SCHEMES, resample

from .targets import seeded, weighed_chain

JUST_BELOW_ONE = math.nextafter(1.0, 0.0)


def counts_of(log_weights, num_draws, scheme, generator):
    ancestors = resample(log_weights, num_draws, scheme=scheme, generator=generator)
    assert ancestors.shape == (num_draws,)
    return ancestors.bincount(minlength=log_weights.shape[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_is_unbiased(scheme):
    """Mean copies over 4,000 repetitions are M W within 5 standard errors."""
    weights = np.array([0.0, 3.0, 0.4, 1.1, 0.0, 2.0, 0.07])
    expected = 9 * weights / weights.sum()
    log_weights = torch.from_numpy(weights).log() + 700.0
    generator = seeded(1)
    counts = torch.stack(
        [counts_of(log_weights, 9, scheme, generator) for _ in range(4000)]
    ).numpy()
    errors = counts.std(0) / math.sqrt(4000)
    assert (np.abs(counts.mean(0) - expected) <= 5 * errors + 1e-12).all()
    assert (counts.sum(1) == 9).all()


@pytest.mark.parametrize("scheme", ["residual", "stratified", "systematic"])
def test_the_refined_schemes_spread_copies_no_wider_than_multinomial(scheme):
    log_weights = torch.randn(12, dtype=torch.float64, generator=seeded(2))

    def spread(name):
        generator = seeded(3)
        counts = torch.stack(
            [counts_of(log_weights, 12, name, generator) for _ in range(3000)]
        )
        return counts.double().var(0)

    assert bool((spread(scheme) < 1.1 * spread("multinomial")).all())


@settings(max_examples=60)
@given(st.lists(st.floats(-30, 3), min_size=1, max_size=40), st.integers(1, 60))
def test_copies_keep_the_bounds_that_their_scheme_promises(log_weights, num_draws):
    tensor = torch.tensor(log_weights, dtype=torch.float64)
    expected = num_draws * tensor.softmax(0)
    generator = seeded(len(log_weights))
    systematic = counts_of(tensor, num_draws, "systematic", generator)
    assert bool(((systematic - expected).abs() < 1 + 1e-9).all())
    residual = counts_of(tensor, num_draws, "residual", generator)
    assert bool((residual >= (expected - 1e-9).floor()).all())


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=40)
@given(
    st.lists(st.floats(-745, 3) | st.just(-math.inf), min_size=1, max_size=30),
    st.integers(0, 9),
)
def test_resampling_never_picks_a_zero_weight(scheme, log_weights, seed):
    tensor = torch.tensor([*log_weights, 0.0, -math.inf], dtype=torch.float64)
    ancestors = resample(tensor, 50, scheme=scheme, generator=seeded(seed))
    assert bool((tensor[ancestors] > -math.inf).all())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("uniform", [0.0, JUST_BELOW_ONE])
@pytest.mark.parametrize("num", [3, 10, 49])
def test_no_zero_weight_is_picked_at_the_edges_of_floating_point(
    scheme, uniform, num, monkeypatch
):
    """Points of exactly 0, and points that round to the sum of all weights.

    The weights are thirds, tenths, ...: their sum is not 1. Zeros stand at both ends.
    """
    monkeypatch.setattr(
        resampling,
        "uniform",
        lambda count, **_: torch.full((count,), uniform, dtype=torch.float64),
    )
    zeros = torch.full((4,), -math.inf, dtype=torch.float64)
    positive = torch.full((num,), math.log(0.1), dtype=torch.float64)
    log_weights = torch.cat([zeros, positive, zeros])
    for num_draws in (1, 2, num, 1000):
        ancestors = resample(log_weights, num_draws, scheme=scheme, generator=seeded())
        assert int(ancestors.min()) >= 4
        assert int(ancestors.max()) < 4 + num


def test_copies_of_equal_weights_are_one_each_unless_multinomial():
    log_weights = torch.full((64,), 12.3, dtype=torch.float64)
    for scheme in ("residual", "stratified", "systematic"):
        counts = counts_of(log_weights, 64, scheme, seeded(7))
        assert counts.tolist() == [1] * 64


def test_the_inverse_agrees_with_the_particles_library(monkeypatch):
    oracle = pytest.importorskip("particles.resampling")
    weights = torch.rand(200, dtype=torch.float64, generator=seeded())
    weights = weights / weights.sum()
    points = torch.rand(300, dtype=torch.float64, generator=seeded(1)).sort().values
    expected = oracle.inverse_cdf(points.numpy(), weights.numpy())
    monkeypatch.setattr(resampling, "uniform", lambda *_, **__: points)
    ancestors = resample(weights.log(), 300, scheme="multinomial", generator=seeded())
    np.testing.assert_array_equal(ancestors.numpy(), expected)


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    for scheme in SCHEMES:
        resample(
            torch.zeros(9, dtype=torch.float64), 5, scheme=scheme, generator=seeded()
        )
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_schemes_and_empty_weights_are_refused():
    weights = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected one of multinomial, residual"):
        resample(weights, 3, scheme="best", generator=seeded())
    with pytest.raises(InferenceError, match="no particle has a positive weight"):
        resample(weights - math.inf, 3, generator=seeded())


def test_resampled_draws_have_the_mean_of_the_posterior():
    particles, mean, covariance, _ = weighed_chain(50_000, widen=1.5)
    draws = particles.resampled(
        4000, scheme="multinomial", generator=seeded()
    ).particles.latents
    errors = np.sqrt(np.diag(covariance) * (1 / 4000 + 1 / 30_000))
    assert (np.abs(draws.mean(0).numpy() - mean) < 4 * errors).all()
    np.testing.assert_allclose(np.cov(draws.T.numpy()), covariance, atol=0.03)

"""Tests of flows.inference.diagnostics."""

import json
import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from scipy import stats

from flows.errors import InferenceError
from flows.inference.diagnostics import (
    cautions,
    ess,
    ess_fraction,
    log_evidence,
    pareto_k_hat,
    prior_predictive_cautions,
    summarize,
)
from flows.inference.importance import importance_particles
from flows.inference.particles import LatentColumns, Particles
from flows.inference.weights import WeightTotals

from .targets import NormalChain, NormalProposal, seeded


def arviz_k_hat(log_weights):
    return float(array_stats.psislw(-log_weights.numpy())[1])


@pytest.mark.parametrize("num", [40, 1000, 30_000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_k_hat_agrees_with_arviz(num, spread):
    noise = torch.randn(num, dtype=torch.float64, generator=seeded(num))
    log_weights = 900.0 + spread * noise
    assert pareto_k_hat(log_weights) == pytest.approx(
        arviz_k_hat(log_weights), abs=1e-9
    )


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_k_hat_finds_the_shape_of_pareto_weights(shape):
    """The asymptotic sd of the fitted shape is (1 + k)/√M; 5 of them are allowed."""
    generator = np.random.default_rng(5)
    weights = stats.genpareto(shape).rvs(size=100_000, random_state=generator)
    num_tail = 3 * math.sqrt(100_000)
    fitted = pareto_k_hat(torch.from_numpy(np.log(weights)))
    assert abs(fitted - shape) < 5 * (1 + shape) / math.sqrt(num_tail)


def test_k_hat_of_degenerate_weights_says_so():
    equal = torch.zeros(1000, dtype=torch.float64)
    none = torch.full((1000,), -math.inf, dtype=torch.float64)
    single = none.clone()
    single[17] = 3.0
    assert pareto_k_hat(equal) == -math.inf
    assert pareto_k_hat(none) == math.inf
    assert pareto_k_hat(single) == math.inf
    assert math.isnan(pareto_k_hat(equal[:20]))


def test_k_hat_counts_zero_weights_below_the_cutoff_only():
    """Zeros are small weights: the tail, and so the fit, is that of the whole set."""
    positive = torch.randn(1500, dtype=torch.float64, generator=seeded())
    tiny = torch.cat([positive, torch.full((500,), -600.0, dtype=torch.float64)])
    zero = torch.cat([positive, torch.full((500,), -math.inf, dtype=torch.float64)])
    assert pareto_k_hat(zero) == pytest.approx(pareto_k_hat(tiny))


def test_k_hat_refuses_nan():
    with pytest.raises(InferenceError, match="1 nan"):
        pareto_k_hat(torch.tensor([0.0, math.nan], dtype=torch.float64))


def test_ess_and_evidence_are_those_of_the_totals():
    log_weights = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    weights = np.exp([0.0, 1.0, 2.0])
    assert ess(log_weights) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert ess_fraction(log_weights) == pytest.approx(ess(log_weights) / 3)
    assert log_evidence(log_weights).value == pytest.approx(math.log(weights.mean()))


def test_the_standard_error_of_the_log_evidence_is_its_spread():
    """1,000 runs of 500 particles: the sd of 1,000 z-scores is 1 ± 5 · 0.022."""
    model = NormalChain()
    data = torch.tensor([0.5], dtype=torch.float64)
    mean, covariance, exact = model.posterior(data)
    proposal = NormalProposal.from_moments(mean + 0.1, 1.4 * covariance)
    scores = []
    for seed in range(1000):
        particles = importance_particles(model, proposal, data, 500, seed=seed)
        estimate = log_evidence(particles.log_weights)
        scores.append((estimate.value - exact) / estimate.standard_error)
    assert abs(np.std(scores) - 1.0) < 5 * 0.022
    assert abs(np.mean(scores)) < 5 / math.sqrt(1000)


def test_good_weights_raise_no_caution():
    log_weights = 0.3 * torch.randn(2000, dtype=torch.float64, generator=seeded())
    totals = WeightTotals.from_log_weights(log_weights)
    assert cautions(totals, pareto_k_hat(log_weights)) == ()


def test_bad_weights_are_said_in_words():
    log_weights = 6.0 * torch.randn(5000, dtype=torch.float64, generator=seeded())
    totals = WeightTotals.from_log_weights(log_weights)
    words = [str(each) for each in cautions(totals, pareto_k_hat(log_weights))]
    assert [sentence.split(" is")[0] for sentence in words] == [
        "Pareto k-hat",
        "the effective sample size",
        "the standard error of the log evidence",
    ]
    assert all("." in sentence and "Train" in sentence for sentence in words[:2])


def test_weights_that_are_all_zero_are_said_in_words():
    log_weights = torch.full((100,), -math.inf, dtype=torch.float64)
    totals = WeightTotals.from_log_weights(log_weights)
    (only,) = cautions(totals, math.inf)
    assert only.what == "none of 100 particles has a positive weight"
    assert "evidence is 0" in only.meaning


def test_an_observation_far_outside_the_prior_predictive_is_named():
    predictive = torch.randn((1000, 2), dtype=torch.float64, generator=seeded())
    observed = torch.tensor([2.5, 40.0], dtype=torch.float64)
    (only,) = prior_predictive_cautions(observed, predictive, ["x0", "x1"])
    assert only.what.startswith("x1 = 40 lies ")
    distance = float(only.what.split()[4])
    assert distance == pytest.approx(40, rel=0.15)


def test_a_constant_prediction_that_misses_is_infinitely_far():
    predictive = torch.ones((10, 1), dtype=torch.float64)
    hit = torch.ones(1, dtype=torch.float64)
    assert prior_predictive_cautions(hit, predictive, ["x"]) == ()
    (only,) = prior_predictive_cautions(hit + 1, predictive, ["x"])
    assert "inf prior predictive" in only.what


def test_the_summary_says_what_the_particles_say_and_is_json():
    model = NormalChain(num_steps=2)
    data = torch.tensor([0.5, 1.0], dtype=torch.float64)
    mean, covariance, exact = model.posterior(data)
    proposal = NormalProposal.from_moments(mean, 1.2 * covariance)
    particles = importance_particles(model, proposal, data, 20_000, seed=0)
    summary = summarize(particles)
    assert [latent.label for latent in summary.latents] == ["z0", "z1"]
    assert [latent.name for latent in summary.latents] == ["sample0", "sample1"]
    for i, latent in enumerate(summary.latents):
        sd = math.sqrt(covariance[i, i])
        assert abs(latent.mean - mean[i]) < 4 * latent.mean_standard_error
        assert latent.sd == pytest.approx(sd, rel=0.03)
        assert latent.quantile_05 == pytest.approx(mean[i] - 1.645 * sd, abs=0.05 * sd)
        assert latent.quantile_95 == pytest.approx(mean[i] + 1.645 * sd, abs=0.05 * sd)
    assert abs(summary.log_evidence - exact) < 4 * summary.log_evidence_standard_error
    assert summary.cautions == ()
    plain = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert plain["latents"][1]["label"] == "z1"
    assert plain["ess"] == summary.ess


def test_the_summary_of_particles_without_weight_is_json_too():
    particles = Particles.from_draws(
        torch.zeros((50, 1), dtype=torch.float64),
        torch.full((50,), -math.inf, dtype=torch.float64),
        (LatentColumns("sample0", "z0", (), 0, 1),),
    )
    plain = json.loads(json.dumps(summarize(particles).to_json(), allow_nan=False))
    assert plain["log_evidence"] is None
    assert plain["ess"] == 0.0
    assert plain["latents"] == []
    assert len(plain["cautions"]) == 1

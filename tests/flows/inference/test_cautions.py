"""Tests of flows.inference.cautions."""

import math

import pytest
import torch

from flows.inference.cautions import cautions, prior_predictive_cautions
from flows.inference.pareto import pareto_k_hat
from flows.inference.weights import WeightTotals

from .targets import seeded


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
    assert all(". Use annealed SMC" in sentence for sentence in words[:2])


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


def test_an_observation_absurdly_far_outside_is_named_in_few_digits():
    predictive = torch.randn(1000, 1, generator=seeded(0), dtype=torch.float64)
    observed = torch.tensor([1e300], dtype=torch.float64)
    (only,) = prior_predictive_cautions(observed, predictive, ["x"])
    assert "e+300 prior predictive" in str(only)

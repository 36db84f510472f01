"""Tests of flows.inference.calibration."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from flows.inference.calibration import (
    all_uniform,
    ks_statistic,
    num_rank_bins,
    rank_histogram,
    sbc_ranks,
    weighted_levels,
)

from .targets import NormalChain, seeded


def test_the_ks_statistic_agrees_with_scipy():
    first = torch.randn((300, 3), dtype=torch.float64, generator=seeded())
    second = torch.randn((170, 3), dtype=torch.float64, generator=seeded(1)).round(
        decimals=1
    )
    expected = [
        stats.ks_2samp(first[:, i].numpy(), second[:, i].numpy()).statistic
        for i in range(3)
    ]
    np.testing.assert_allclose(ks_statistic(first, second).numpy(), expected)


def test_ranks_count_the_draws_below_the_truth():
    truth = torch.tensor([0.5, -9.0, 9.0], dtype=torch.float64)
    draws = torch.tensor(
        [[0.1, 0.0, 0.0], [0.7, 0.0, 0.0], [0.2, 0.0, 0.0]], dtype=torch.float64
    )
    assert sbc_ranks(truth, draws, generator=seeded()).tolist() == [2, 0, 3]


def test_ties_with_the_truth_are_broken_evenly():
    truth = torch.zeros(6000, dtype=torch.float64)
    draws = torch.zeros((2, 6000), dtype=torch.float64)
    counts = sbc_ranks(truth, draws, generator=seeded()).bincount()
    assert counts.shape == (3,)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def calibration_ranks(scale, num_data_sets=1000, num_draws=99):
    """Ranks under the exact posterior of the one-step chain, its sd times `scale`."""
    model = NormalChain()
    generator = seeded(8)
    joint = model.sample(num_data_sets, generator=generator)
    ranks = []
    for truth, data in zip(joint.latents, joint.observed, strict=True):
        mean, covariance, _ = model.posterior(data)
        noise = torch.randn((num_draws, 1), dtype=torch.float64, generator=generator)
        draws = torch.from_numpy(mean) + scale * math.sqrt(covariance[0, 0]) * noise
        ranks.append(sbc_ranks(truth, draws, generator=generator))
    return torch.cat(ranks)


def test_ranks_under_the_exact_posterior_are_uniform():
    histogram = rank_histogram(calibration_ranks(1.0), 99)
    assert histogram.is_uniform
    assert sum(histogram.counts) == 1000
    assert histogram.p_value > 0.01


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_ranks_under_a_posterior_of_wrong_width_are_not_uniform(scale):
    histogram = rank_histogram(calibration_ranks(scale), 99)
    assert histogram.is_uniform is False
    assert histogram.p_value < 1e-4


def test_uniform_ranks_leave_the_band_as_seldom_as_it_says():
    """A 90 % band over 600 histograms of uniform ranks: at most 10 % + 5 errors."""
    generator = seeded(9)
    num_outside = 0
    for _ in range(600):
        ranks = torch.randint(0, 20, (400,), generator=generator)
        num_outside += not rank_histogram(ranks, 19, num_bins=10, level=0.9).is_uniform
    assert 0.02 < num_outside / 600 < 0.1 + 5 * math.sqrt(0.09 / 600)


@pytest.mark.parametrize("num_data_sets", [20, 100, 250])
def test_ranks_all_alike_are_found_with_as_few_data_sets_as_two_bins_need(
    num_data_sets,
):
    bins = num_rank_bins(num_data_sets, 99)
    assert num_data_sets // bins >= 10
    alike = torch.full((num_data_sets,), 3)
    assert rank_histogram(alike, 99, num_bins=bins).is_uniform is False


def test_one_bin_is_no_judgement_and_does_not_hide_a_bad_one():
    """A single bin holds every rank, and once passed for uniform."""
    assert num_rank_bins(19, 99) == 1
    one = rank_histogram(torch.full((19,), 3), 99, num_bins=1)
    good = rank_histogram(calibration_ranks(1.0), 99)
    bad = rank_histogram(torch.full((1000,), 3), 99)
    assert one.is_uniform is None
    assert all_uniform([good, one]) is None
    assert all_uniform([good, one, bad]) is False
    assert all_uniform([good]) is True


def test_ranks_that_no_bins_share_out_are_refused():
    with pytest.raises(ValueError, match="expected a divisor"):
        rank_histogram(torch.zeros(5, dtype=torch.int64), 100)
    with pytest.raises(ValueError, match="out of range"):
        rank_histogram(torch.tensor([100]), 99)


def level_ranks(num_draws, error=0.0, num_data_sets=1000):
    """Levels of truths among draws of N(0.3, 1.5²), as ranks in 20 bins.

    The posterior of the one-step chain is the target; `error` times the draw is added
    to its log weights.
    """
    model = NormalChain()
    generator = seeded(11)
    joint = model.sample(num_data_sets, generator=generator)
    law = torch.distributions.Normal(torch.tensor(0.3, dtype=torch.float64), 1.5)
    levels = []
    for truth, data in zip(joint.latents, joint.observed, strict=True):
        noise = torch.randn((num_draws, 1), dtype=torch.float64, generator=generator)
        draws = 0.3 + 1.5 * noise
        both = torch.cat([draws, truth.unsqueeze(0)])
        log_weights = model.log_joint(both, data) - law.log_prob(both).sum(1)
        log_weights += error * both[:, 0]
        levels.append(
            weighted_levels(
                truth, log_weights[-1], draws, log_weights[:-1], generator=generator
            )
        )
    return (torch.cat(levels) * 20).long()


@pytest.mark.parametrize("num_draws", [1, 5, 100])
def test_levels_among_weighted_draws_are_uniform_for_every_number_of_draws(num_draws):
    histogram = rank_histogram(level_ranks(num_draws), 19)
    assert histogram.is_uniform
    assert histogram.p_value > 0.01


def test_levels_under_wrong_weights_are_not_uniform():
    histogram = rank_histogram(level_ranks(100, error=1.0), 19)
    assert histogram.is_uniform is False
    assert histogram.p_value < 1e-4


def test_a_level_counts_the_weight_below_and_shares_out_that_of_the_truth():
    truth = torch.tensor([0.0, 0.0], dtype=torch.float64)
    draws = torch.tensor([[-1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    # Weights 1/2 and 1/4 of the draws, 1/4 of the truth.
    log_weights = torch.tensor([2.0, 1.0], dtype=torch.float64).log()
    one = torch.zeros((), dtype=torch.float64)
    rows = torch.stack(
        [
            weighted_levels(truth, one, draws, log_weights, generator=seeded(seed))
            for seed in range(2000)
        ]
    )
    for found, low, high in ((rows[:, 0], 0.5, 0.75), (rows[:, 1], 0.0, 0.5)):
        assert stats.kstest(found.numpy(), "uniform", (low, high - low)).pvalue > 1e-3

"""Tests of flows.training.estimates."""

import pytest
import torch

from flows.training.estimates import MOST_NATS, estimate, estimate_symmetric


def test_terms_that_are_not_finite_are_counted_and_said():
    terms = torch.tensor([1.0, 3.0, torch.nan, torch.inf])
    got = estimate(terms)
    assert got.mean == 2.0
    assert got.num_non_finite == got.num_held == 2
    assert got.held_mean == pytest.approx((1 + 3 + 2 * (1 + MOST_NATS)) / 4)
    assert "without 2 of 4 terms that were not finite" in got.sentence()
    assert "without" not in estimate(terms[:2]).sentence()


def test_robust_means_leave_out_one_wild_term():
    terms = torch.zeros(10_000)
    terms[17] = 1e6
    got = estimate(terms)
    assert got.mean == pytest.approx(100.0)
    assert got.median_of_means == 0.0
    assert got.trimmed_mean == 0.0
    assert got.held_mean == pytest.approx(MOST_NATS / 10_000)
    assert estimate(terms + 1e5).held_mean == pytest.approx(1e5 + 0.01)
    assert estimate_symmetric(terms, -terms).symmetric.mean == 0.0

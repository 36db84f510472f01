"""Tests of flows.inference.weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import InferenceError
from flows.inference.importance import importance_particles
from flows.inference.weights import WeightTotals, check_log_weights, ess

from .targets import NormalChain, NormalProposal

finite_or_zero = st.floats(-700, 700) | st.just(-math.inf)


def totals_of(log_weights):
    return WeightTotals.from_log_weights(torch.tensor(log_weights, dtype=torch.float64))


def test_ess_and_evidence_follow_their_definitions_on_plain_weights():
    weights = np.array([0.5, 2.0, 0.0, 1.5])
    totals = totals_of([math.log(w) if w else -math.inf for w in weights])
    assert totals.num_zero == 1
    assert totals.ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert totals.log_evidence == pytest.approx(math.log(weights.mean()))
    relative_error = weights.std(ddof=1) / math.sqrt(4) / weights.mean()
    assert totals.log_evidence_standard_error == pytest.approx(relative_error)


def test_equal_weights_have_full_ess_and_no_error():
    totals = totals_of([-1234.5] * 100)
    assert totals.ess == pytest.approx(100.0)
    assert totals.ess <= 100.0
    assert totals.log_evidence == pytest.approx(-1234.5)
    assert totals.log_evidence_standard_error == pytest.approx(0.0, abs=1e-6)


@given(st.lists(finite_or_zero), st.lists(finite_or_zero))
def test_totals_of_parts_merge_to_the_totals_of_the_whole(first, second):
    merged = totals_of(first).merge(totals_of(second))
    whole = totals_of(first + second)
    assert merged.num_particles == whole.num_particles
    assert merged.num_zero == whole.num_zero
    assert merged.log_sum == pytest.approx(whole.log_sum, abs=1e-9)
    assert merged.log_sum_squares == pytest.approx(whole.log_sum_squares, abs=1e-9)


def test_all_weights_zero_is_evidence_zero_and_ess_zero():
    totals = totals_of([-math.inf] * 3)
    assert totals.ess == 0.0
    assert totals.ess_fraction == 0.0
    assert totals.log_evidence == -math.inf
    assert math.isnan(totals.log_evidence_standard_error)


def test_nan_and_positive_infinity_are_refused_with_their_counts():
    log_weights = torch.tensor(
        [0.0, math.nan, math.inf, math.nan, -math.inf], dtype=torch.float64
    )
    with pytest.raises(
        InferenceError, match=r"got 2 nan and 1 \+inf among 5"
    ) as caught:
        check_log_weights(log_weights, "here")
    assert str(caught.value).startswith("here: ")


def test_weights_in_single_precision_are_refused():
    with pytest.raises(ValueError, match="float64"):
        check_log_weights(torch.zeros(3, dtype=torch.float32), "here")


def test_the_ess_of_many_rows_is_that_of_each():
    rows = torch.tensor(
        [[0.0, 1.0, 2.0], [-math.inf, 5.0, 5.0], [-math.inf] * 3], dtype=torch.float64
    )
    weights = np.exp(rows.numpy() - 2.0)
    first = weights[0].sum() ** 2 / (weights[0] ** 2).sum()
    np.testing.assert_allclose(ess(rows).numpy(), [first, 2.0, 0.0])
    assert float(ess(rows[0])) == pytest.approx(totals_of([0.0, 1.0, 2.0]).ess)


def test_the_standard_error_of_the_log_evidence_is_its_spread():
    """1,000 runs of 500 particles: the sd of 1,000 z-scores is 1 ± 5 · 0.022."""
    model = NormalChain()
    data = torch.tensor([0.5], dtype=torch.float64)
    mean, covariance, exact = model.posterior(data)
    proposal = NormalProposal.from_moments(mean + 0.1, 1.4 * covariance)
    scores = []
    for seed in range(1000):
        particles = importance_particles(model, proposal, data, 500, seed=seed)
        totals = particles.totals
        gap = totals.log_evidence - exact
        scores.append(gap / totals.log_evidence_standard_error)
    assert abs(np.std(scores) - 1.0) < 5 * 0.022
    assert abs(np.mean(scores)) < 5 / math.sqrt(1000)

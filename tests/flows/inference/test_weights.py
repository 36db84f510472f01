"""Tests of flows.inference.weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import InferenceError
from flows.inference.weights import WeightTotals, check_log_weights

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


@settings(deadline=None)
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
    with pytest.raises(TypeError, match="float64"):
        check_log_weights(torch.zeros(3, dtype=torch.float32), "here")

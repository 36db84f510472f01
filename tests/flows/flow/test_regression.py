"""Tests of flows.flow.regression: least squares beside those of NumPy."""

import numpy as np
import pytest
import torch

from flows.flow.regression import Regression


def regressed(values):
    """Return the regression of the first column on all others, and NumPy's weights."""
    draws = torch.tensor(np.column_stack([values, np.ones(len(values))]))
    reads = list(range(1, values.shape[1]))
    found = Regression.of(draws, draws.T @ draws / len(draws), 0, reads)
    wanted = np.linalg.lstsq(draws[:, 1:].numpy(), values[:, 0])[0]
    return found, wanted


@pytest.mark.parametrize(
    ("num_draws", "num_columns"), [(400, 5), (120, 100), (60, 61), (50, 200)]
)
def test_weights_are_those_of_least_norm(num_draws, num_columns):
    values = np.random.default_rng(0).normal(size=(num_draws, num_columns))
    found, wanted = regressed(values)
    assert np.allclose(found.slopes, wanted[:-1], rtol=1e-8, atol=1e-10)
    assert float(found.intercept) == pytest.approx(wanted[-1], rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("num_draws", [400, 8])
def test_weights_are_shared_among_columns_that_say_the_same(num_draws):
    values = np.random.default_rng(0).normal(size=(num_draws, 6))
    values = np.column_stack([values, values[:, 1:] * 2.0, 0.0 * values[:, :1]])
    found, wanted = regressed(values)
    assert np.allclose(found.slopes, wanted[:-1], rtol=1e-6, atol=1e-8)
    assert float(found.slopes[5]) == pytest.approx(2.0 * float(found.slopes[0]))

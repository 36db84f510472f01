"""Tests of flows.inference.smc.schedule."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from flows.inference.smc.schedule import next_temperature, weighted_factor

LOG_WEIGHT = -(np.linspace(1.0, 2.0, 1000) ** 8)


def kept(log_weight, step):
    """The share of the conditional ess of equal weights, in the precision of numpy."""
    growth = (log_weight - log_weight.max()).astype(np.longdouble) * step
    log_kept = 2 * logsumexp(growth) - logsumexp(2 * growth)
    return math.exp(log_kept) / len(growth)


def temperature_after(last, log_weight, share=0.9):
    weights = torch.tensor(log_weight)
    return next_temperature(last, weights, torch.zeros_like(weights), share)


@pytest.mark.parametrize("size", [1.0, 1e8, 1e20, 1e290])
def test_the_first_step_keeps_the_share_however_far_apart_the_weights(size):
    found = temperature_after(0.0, size * LOG_WEIGHT)
    assert kept(size * LOG_WEIGHT, found) == pytest.approx(0.9, abs=1e-9)


def test_where_weights_differ_and_are_all_tiny_the_target_is_not_near():
    far = -1e20 + np.linspace(-1e18, 1e18, 1000)
    assert 0.0 < temperature_after(0.0, far) < 1e-17


def test_particles_that_do_not_follow_come_nearer_to_the_target_all_the_same():
    after = temperature_after(0.5, 1e20 * LOG_WEIGHT)
    assert 1.0005 < after / 0.5 < 1.01
    assert temperature_after(1.0 - 1e-6, 1e20 * LOG_WEIGHT) == 1.0


def test_the_factor_of_one_particle_that_has_all_the_weight_is_regular():
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    places = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 9.0]], dtype=torch.float64)
    factor = weighted_factor(places, weights)
    assert factor.isfinite().all()
    assert (factor.diagonal() > 0.0).all()
    assert (factor < 1e-100).all()

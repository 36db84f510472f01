"""Tests of flows.inference.pareto."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from scipy import stats

from flows.errors import InferenceError
from flows.inference.pareto import pareto_k_hat

from .targets import seeded


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


def test_a_tail_that_weighs_nothing_is_none():
    """Seen: weights within 0.04 nats of each other, and a k-hat of 3.3."""
    generator = torch.Generator().manual_seed(0)
    near = 0.01 * torch.rand(10_000, generator=generator, dtype=torch.float64)
    near[:50] += 0.005 * torch.arange(1, 51) ** -0.3
    near[:10] += torch.tensor([0.02 * 1.4**n for n in range(10)])
    assert arviz_k_hat(near) > 0.7
    assert pareto_k_hat(near) == -math.inf
    # The same shape a hundred times as high is a tail.
    far = (1.0 + 100.0 * near.expm1()).log()
    assert pareto_k_hat(far) == pytest.approx(arviz_k_hat(far), abs=1e-9)
    assert pareto_k_hat(far) > 0.7

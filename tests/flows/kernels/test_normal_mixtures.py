"""Tests of flows.kernels.normal_mixtures against SciPy's sums of all terms."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import norm

from flows.kernels.normal_mixtures import mixture_sums


@pytest.mark.parametrize(
    ("entries", "values", "components", "rows", "value_rows", "spread"),
    [
        (1, 1, 1, 1, 1, 1.0),
        (1, 130, 5, 3, 1, 1.0),
        (2, 70, 3, 65, 65, 1.0),
        (3, 9, 20, 129, 1, 30.0),
        (1, 64, 2, 64, 64, 1e4),
    ],
)
def test_sums_and_slopes(entries, values, components, rows, value_rows, spread):
    rng = np.random.default_rng(entries + values)
    x = spread * rng.normal(size=(entries, values, value_rows))
    shape = entries, components, rows
    means, inverses = spread * rng.normal(size=shape), rng.uniform(0.1, 3.0, shape)
    weights = spread * rng.normal(size=(components, rows))
    found, *slopes = mixture_sums(x, means, inverses, weights)

    z = (x[:, None] - means[:, :, None]) * inverses[:, :, None]
    terms = weights[:, None] + norm.logpdf(z).sum(0) + 0.5 * entries * np.log(2 * np.pi)
    shares = softmax(terms, 0)
    right = (
        (shares * z * inverses[:, :, None]).sum(2),
        -(shares * z * z).sum(2) / inverses,
        shares.sum(1),
    )
    assert found == pytest.approx(logsumexp(terms, 0).sum(0), rel=1e-12, abs=1e-12)
    for own, expected in zip(slopes, right, strict=True):
        scale = np.abs(expected).max()
        assert own == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)


def test_values_far_from_every_component_keep_their_sum():
    far = np.full((1, 3, 1), 1e6)
    one = np.ones((1, 2, 1))
    found, *_ = mixture_sums(far, one * [[[0.0], [1.0]]], one, np.zeros((2, 1)))
    # The nearer component leads by a million nats.
    assert found == pytest.approx([-1.5 * (1e6 - 1.0) ** 2], rel=1e-15)

"""Tests of flows.autoregressive.mixture."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from flows.autoregressive.mixture import Mixture


def _mixtures(rows, components=5, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)

    def drawn():
        return torch.randn(components, rows, generator=generator, dtype=torch.float64)

    return Mixture(
        torch.log_softmax(2.0 * drawn(), -2), 3.0 * drawn(), (spread * drawn()).exp()
    )


def _points(rows, seed=1, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, generator=generator, dtype=torch.float64)


def _tails(mixture, values):
    """Logarithms of F and 1 - F by scipy."""
    unit = (values - mixture.centres) / mixture.scales
    return tuple(
        np.logaddexp.reduce(
            mixture.log_weights.numpy() + norm.logcdf(sign * unit.numpy()), axis=0
        )
        for sign in (1.0, -1.0)
    )


def test_density_is_that_of_scipy():
    mixture, values = _mixtures(40), _points(40)
    parts = norm.logpdf(values.numpy(), mixture.centres.numpy(), mixture.scales.numpy())
    wanted = np.logaddexp.reduce(mixture.log_weights.numpy() + parts, axis=0)
    np.testing.assert_allclose(mixture.log_prob(values).numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_quantiles_are_exact_in_both_tails(scale):
    mixture, base = _mixtures(4000, spread=2.5), _points(4000, scale=scale)
    below, above = _tails(mixture, mixture.quantile(base))
    is_below = base.numpy() < 0
    found = np.where(is_below, below, above)
    wanted = norm.logcdf(-np.abs(base.numpy()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    assert np.median(np.abs(found - wanted)) < 1e-13


def test_quantile_of_one_normal_is_the_shifted_and_scaled_point():
    one = Mixture(
        *(torch.full((1, 3), v, dtype=torch.float64) for v in (0.0, 2.0, 3.0))
    )
    base = torch.tensor([-7.0, 0.0, 1.5], dtype=torch.float64)
    torch.testing.assert_close(one.quantile(base), 2.0 + 3.0 * base)


def test_quantiles_between_parted_components_stay_between_them():
    mixture = Mixture(
        torch.tensor([[0.5], [0.5]], dtype=torch.float64).log().expand(2, 2),
        torch.tensor([[-1e3], [1e3]], dtype=torch.float64).expand(2, 2),
        torch.tensor([[1e-3], [1e-3]], dtype=torch.float64).expand(2, 2),
    )
    values = mixture.quantile(torch.tensor([-1e-3, 1e-3]).double())
    assert values.tolist() == pytest.approx([-1e3, 1e3], abs=0.1)


def test_quantile_has_the_slopes_of_finite_differences():
    mixture, base = _mixtures(6, 3, spread=0.3), _points(6, scale=1.0)
    parts = (mixture.log_weights, mixture.centres, mixture.scales, base)
    moved = [part.clone().requires_grad_() for part in parts]

    def carried(logits, centres, scales, points):
        normed = torch.log_softmax(logits, -2)
        return Mixture(normed, centres, scales).quantile(points)

    assert torch.autograd.gradcheck(carried, moved, eps=1e-6, atol=1e-6)


def test_picked_draws_are_of_the_mixture():
    row = _mixtures(1)
    many = Mixture(
        *(each.expand(5, 20_000) for each in (row.log_weights, row.centres, row.scales))
    )
    drawn = many.picked(_points(20_000, scale=1.0))
    found = kstest(drawn.numpy(), lambda v: np.exp(_tails(row, torch.tensor(v))[0]))
    assert found.pvalue > 1e-3


def test_picked_and_exact_maps_agree_for_one_component():
    one = _mixtures(50, 1)
    base = _points(50, scale=1.0)
    torch.testing.assert_close(one.picked(base), one.quantile(base))

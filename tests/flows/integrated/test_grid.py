"""Tests of flows.integrated.grid: densities on the line by their values at points."""

import math

import pytest
import scipy.integrate
import scipy.stats
import torch

from flows.integrated.grid import Grid, fitted

START = torch.linspace(-40.0, 40.0, 33, dtype=torch.float64)


def _rows(count):
    return START.expand(count, -1).contiguous()


def _normal(at, mean, scale):
    return torch.distributions.Normal(mean, scale).log_prob(at)


@pytest.mark.parametrize("scale", [0.001, 0.03, 1.0, 5.0])
def test_integral_of_a_product_of_normals_is_known(scale):
    means = torch.linspace(-9.0, 11.0, 40, dtype=torch.float64)[:, None]
    own = torch.tensor(scale, dtype=torch.float64)
    wide = torch.tensor(4.0, dtype=torch.float64)
    grid = fitted(
        lambda at, rows: _normal(at, 1.0, wide) + _normal(at, means[rows], own),
        _rows(40),
    )
    exact = _normal(means[:, 0], 1.0, (own.square() + wide.square()).sqrt())
    torch.testing.assert_close(grid.log_integral(), exact, atol=0.01, rtol=0)


def test_integral_of_two_peaks_and_a_plateau_is_that_of_quadrature():
    def density(at):
        peaks = torch.logaddexp(_normal(at, -2.0, 0.5), _normal(at, 3.0, 0.3) - 0.5)
        return torch.logaddexp(peaks, -3.0 - 0.05 * at.abs())

    grid = fitted(lambda at, _: density(at), _rows(1))

    def value(at):
        return math.exp(float(density(torch.tensor(at, dtype=torch.float64))))

    exact, _ = scipy.integrate.quad(value, -400, 400, points=[-2, 0, 3], limit=500)
    assert float(grid.log_integral()) == pytest.approx(math.log(exact), abs=0.05)


def test_density_integrates_to_one_and_quantiles_undo_the_distribution_function():
    centre = torch.tensor([[0.3], [7.0]], dtype=torch.float64)
    grid = fitted(
        lambda at, rows: -(at - centre[rows]).abs() / 0.4 - at.square() / 50, _rows(2)
    )
    share = torch.linspace(0.001, 0.999, 15, dtype=torch.float64).expand(2, -1)
    at = grid.quantile(share.contiguous())
    for row in (0, 1):
        one = Grid(
            grid.points[row], grid.values[row], tuple(e[row] for e in grid.lengths)
        )

        def density(s, one=one):
            return float(one.log_prob(torch.tensor([s], dtype=torch.float64)).exp())

        inner = [float(one.points[0]), *map(float, at[row])]
        low, _ = scipy.integrate.quad(density, -math.inf, inner[0])
        found = low
        for start, end, wanted in zip(inner, inner[1:], share[row], strict=False):
            found += scipy.integrate.quad(density, start, end, limit=200)[0]
            assert found == pytest.approx(float(wanted), abs=1e-5)


def test_far_quantiles_are_finite_and_their_density_is_positive():
    grid = fitted(lambda at, _: _normal(at, 0.0, 1.0), _rows(1))
    tiny = torch.finfo(torch.float64).tiny
    share = torch.tensor([[0.0, tiny, 1e-15, 1.0 - 1e-16, 1.0]], dtype=torch.float64)
    at = grid.quantile(share)
    assert bool(torch.isfinite(at).all())
    assert bool(torch.isfinite(grid.log_prob(at)).all())
    assert bool((at.diff() >= 0).all())


def test_heavy_tails_are_covered_by_heavier_ones():
    reference = scipy.stats.cauchy(2.0, 0.5)
    grid = fitted(
        lambda at, _: torch.from_numpy(reference.logpdf(at.numpy())).to(at), _rows(1)
    )
    at = torch.tensor([[-1e5, -1e3, 1e3, 1e5]], dtype=torch.float64)
    ratio = torch.from_numpy(reference.logpdf(at.numpy())) - grid.log_prob(at)
    assert float(ratio.max()) < 3.0


def test_values_that_are_nothing_do_not_harm():
    def half(at, _):
        return torch.where(at > 1.0, -at, -math.inf)

    grid = fitted(half, _rows(3))
    torch.testing.assert_close(
        grid.log_integral(),
        torch.full((3,), -1.0, dtype=torch.float64),
        atol=0.2,
        rtol=0,
    )


def test_gradient_of_the_integral_is_that_of_its_closed_form():
    mean = torch.tensor([[1.7], [-3.0]], dtype=torch.float64, requires_grad=True)
    grid = fitted(
        lambda at, rows: _normal(at, 0.0, 2.0) + _normal(at, mean[rows], 0.3), _rows(2)
    )
    (found,) = torch.autograd.grad(grid.log_integral().sum(), mean)
    exact = -mean / (2.0**2 + 0.3**2)
    torch.testing.assert_close(found, exact.detach(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("count", [3.0, 1e3, 1e5])
def test_what_many_counts_say_of_their_log_rate_is_found_in_a_wide_prior(count):
    """Of y s - exp(s) the integral is the gamma function of y."""
    grid = fitted(lambda at, _: count * at - at.exp(), _rows(2))
    assert float(grid.log_integral()[1]) == pytest.approx(math.lgamma(count), abs=0.01)

"""Tests of flows.integrated.normal: normal densities by three values."""

import math

import pytest
import scipy.stats
import torch

from flows.integrated.grid import NOTHING
from flows.integrated.normal import Normals, fitted_normals


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("far", [0.0, 1e3, -1e6])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_mean_scale_and_integral_are_those_of_the_normal(far, scale):
    truth = scipy.stats.norm(far, scale)

    def log_density(points):
        return torch.from_numpy(truth.logpdf(points.numpy())) + 2.5

    found = fitted_normals(log_density, tensor(0.0, 3.0), tensor(2.0, 5.0))
    for mean, sd, total in zip(found.mean, found.scale, found.total, strict=True):
        assert abs(float(mean) - far) < 1e-6 * scale + 1e-12 * abs(far)
        assert float(sd) == pytest.approx(scale, rel=1e-6)
        assert float(total) == pytest.approx(2.5, abs=1e-6)


def test_densities_and_quantiles_are_those_of_scipy():
    found = Normals(tensor(1.0), tensor(0.3), tensor(0.0))
    truth = scipy.stats.norm(1.0, 0.3)
    shares = tensor(1e-12, 0.01, 0.5, 0.99)
    at = found.quantile(shares[None])
    torch.testing.assert_close(at[0], torch.from_numpy(truth.ppf(shares.numpy())))
    exact = torch.from_numpy(truth.logpdf(at[0].numpy()))
    torch.testing.assert_close(found.log_prob(at)[0], exact)
    ends = found.quantile(tensor(0.0, 1.0)[None])
    assert bool(torch.isfinite(ends).all())


def test_the_integral_has_its_gradient_through_the_values():
    """Of log ∫ N(z; 0, 1) N(x; w z, 1) dz = log N(x; 0, sqrt(1 + w^2))."""
    w, x = tensor(0.7).requires_grad_(), 1.9

    def log_density(points):
        inside = -0.5 * points.square() - 0.5 * (x - w[:, None] * points).square()
        return inside - math.log(2.0 * math.pi)

    found = fitted_normals(log_density, tensor(0.0), tensor(2.0)).log_integral()
    variance = 1.0 + w.square()
    exact = -0.5 * x**2 / variance - 0.5 * (2.0 * math.pi * variance).log()
    torch.testing.assert_close(found, exact)
    (ours,), (theirs,) = (
        torch.autograd.grad(each.sum(), w, retain_graph=True) for each in (found, exact)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_where_there_is_no_density_the_integral_is_nothing(value):
    found = fitted_normals(
        lambda points: torch.full_like(points, value), tensor(1.0), tensor(2.0)
    )
    assert float(found.log_integral()[0]) == NOTHING
    assert math.isfinite(float(found.quantile(tensor(0.3)[None])[0, 0]))


def test_where_roundings_are_all_that_is_left_there_is_nothing():
    def log_density(points):
        return -0.5 * ((points - 1e30) / 1e-30).square()

    found = fitted_normals(log_density, tensor(0.0), tensor(1.0))
    assert float(found.log_integral()[0]) == NOTHING


def test_rows_without_a_density_have_no_gradient():
    t = tensor(-1.0, 1.0).requires_grad_()

    def log_density(points):
        precision = torch.where(t > 0, t, torch.nan)[:, None]
        return 0.5 * precision.log() - 0.5 * precision * points.square()

    total = fitted_normals(log_density, tensor(0.0, 0.0), tensor(2.0, 2.0)).total
    kept = total.masked_fill(total.detach() == NOTHING, 0.0)
    (slope,) = torch.autograd.grad(kept.sum(), t)
    assert slope[0] == 0.0
    assert abs(float(slope[1])) < 1e-9

"""Tests of flows.model.support: autodiff and torch's transforms are the oracles."""

import math

import pytest
import torch
from torch.distributions import biject_to, constraints

from daphne_bridge.language.families import FAMILIES
from flows.model.support import BIJECTIONS

SIZES = {
    "simplex": 4,
    "positive definite matrix": 9,
    "real vector": 3,
    "located vector": 3,
}


def _free(support, rows=5, seed=0, dtype=torch.float64):
    size = BIJECTIONS[support].free_size(SIZES.get(support, 1))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, size, rows, generator=generator, dtype=dtype)


def _bounds(support, rows=5):
    low = torch.linspace(-1, 1, 2 * rows, dtype=torch.float64).view(2, rows)
    if support == "interval":
        return low, low + 2.5
    if support == "located":
        return low, low.exp()
    if support == "located vector":
        generator = torch.Generator().manual_seed(1)
        roots = torch.randn(2, 3, 3, rows, generator=generator, dtype=torch.float64)
        covariance = torch.einsum("sijr,skjr->sikr", roots, roots)
        return roots[:, 0], covariance + 0.1 * torch.eye(3).double()[..., None]
    return ()


def _reduced(support, value):
    """Return the coordinates that the density is relative to."""
    if support == "simplex":
        return value[:-1]
    if support == "positive definite matrix":
        rows, columns = torch.tril_indices(3, 3)
        return value.view(3, 3)[rows, columns]
    return value


def test_every_continuous_support_has_a_map():
    wanted = {f.support for f in FAMILIES.values() if not f.is_discrete}
    # These map the real line and vectors where other latents give location and scale.
    assert set(BIJECTIONS) == wanted | {"located", "located vector"}


@pytest.mark.parametrize("support", sorted(BIJECTIONS))
def test_there_and_back_is_the_identity(support):
    free, bounds = _free(support), _bounds(support)
    value, log_det = BIJECTIONS[support].to_value(free, *bounds)
    again, log_det_again = BIJECTIONS[support].to_free(value, *bounds)
    assert torch.allclose(again, free, atol=1e-9)
    assert torch.allclose(log_det, log_det_again, atol=1e-9)


@pytest.mark.parametrize("support", sorted(BIJECTIONS))
def test_log_det_is_that_of_autodiff(support):
    free, bounds = _free(support), _bounds(support)
    _, log_det = BIJECTIONS[support].to_value(free, *bounds)
    for slot in range(2):
        for row in range(5):

            def function(point, slot=slot, row=row):
                own = [bound[slot : slot + 1, ..., row : row + 1] for bound in bounds]
                value, _ = BIJECTIONS[support].to_value(point[None, :, None], *own)
                return _reduced(support, value.flatten())

            jacobian = torch.autograd.functional.jacobian(function, free[slot, :, row])
            expected = torch.linalg.slogdet(jacobian)[1]
            assert float(log_det[slot, row]) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize(
    ("support", "constraint"),
    [
        ("positive", constraints.positive),
        ("unit interval", constraints.unit_interval),
        ("simplex", constraints.simplex),
    ],
)
def test_values_are_those_of_torch(support, constraint):
    free = _free(support)
    value, _ = BIJECTIONS[support].to_value(free)
    expected = biject_to(constraint)(free.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(value, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("support", ["positive", "unit interval", "simplex"])
def test_extreme_coordinates_stay_inside_the_support(support, dtype):
    free = _free(support, dtype=dtype) * 1e4
    value, _ = BIJECTIONS[support].to_value(free)
    assert (value > 0).all()
    if support == "unit interval":
        assert (value < 1).all()


@pytest.mark.parametrize("support", ["positive", "unit interval", "interval"])
@pytest.mark.parametrize("side", [0, 1])
def test_values_differ_up_to_the_limits_and_are_one_beyond(support, side):
    bijection = BIJECTIONS[support]
    limit = bijection.free_limits[side]
    outwards = math.copysign(1.0, limit)
    # Under a zero bound: elsewhere an interval has fewer digits below than above.
    bounds = () if support != "interval" else (torch.zeros(1, 4), torch.ones(1, 4))
    steps = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    free = (limit + outwards * steps).reshape(1, 1, 4)
    value, _ = bijection.to_value(free, *bounds)
    inner, last, first, outer = value.flatten().tolist()
    assert inner != last != first
    assert first == outer or math.isinf(outer)


@pytest.mark.parametrize(
    ("support", "value"),
    [
        ("positive", [-1.0]),
        ("unit interval", [1.5]),
        ("simplex", [0.6, 0.6, -0.2]),
        ("positive definite matrix", [1.0, 2.0, 2.0, 1.0]),
    ],
)
def test_a_value_outside_the_support_has_no_free_coordinates(support, value):
    batch = torch.tensor(value, dtype=torch.float64)[None, :, None]
    free, _ = BIJECTIONS[support].to_free(batch)
    assert torch.isnan(free).any()


def test_the_interval_is_that_of_its_bounds():
    free, bounds = _free("interval"), _bounds("interval")
    value, _ = BIJECTIONS["interval"].to_value(free, *bounds)
    assert (value[:, 0] > bounds[0]).all()
    assert (value[:, 0] < bounds[1]).all()
    middle, _ = BIJECTIONS["interval"].to_value(torch.zeros_like(free), *bounds)
    assert torch.allclose(middle[:, 0], bounds[0] + 1.25)
    assert math.isfinite(float(middle.sum()))

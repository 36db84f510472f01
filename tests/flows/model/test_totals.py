"""Tests of flows.model.totals: the plain sum of the kernel is the oracle."""

import pytest
import torch

from flows.model.families import DENSITIES
from flows.model.totals import density_total, linear_normal_total

SHAPES = [
    ((700, 1), (700, 120), (1, 120)),
    ((700, 120), (700, 120), (700, 120)),
    ((700, 120), (1, 120), (700, 1)),
    ((700, 120), (1, 1), (1, 1)),
    ((700, 1), (1, 120), (700, 1)),
    ((700, 1), (700, 1), (700, 120)),
    ((5, 7), (5, 7), (1, 7)),
]


def _arguments(shapes, *, scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]
    made[-1] = made[-1].abs() + 0.5
    if scale == "positive":
        made = [value.abs() + 0.1 for value in made]
    return [value.requires_grad_() for value in made]


def _assert_same(found, expected, arguments):
    assert torch.allclose(found, expected, rtol=1e-12)
    weights = torch.linspace(0.5, 2, len(found), dtype=torch.float64)
    left = torch.autograd.grad((found * weights).sum(), arguments, retain_graph=True)
    right = torch.autograd.grad((expected * weights).sum(), arguments)
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("family", ["normal", "laplace", "gamma", "beta"])
def test_a_total_is_the_sum_and_has_its_gradient(family, shapes):
    positive = "any" if family in ("normal", "laplace") else "positive"
    arguments = _arguments(shapes, scale=positive)
    if family == "beta":
        arguments[0] = torch.sigmoid(arguments[0]).detach().requires_grad_()
    kernel = DENSITIES[family].log_prob
    _assert_same(
        density_total(family, kernel, arguments), kernel(*arguments).sum(0), arguments
    )


def test_a_vector_density_is_summed_in_blocks_too():
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(1, 3, 1, generator=generator, dtype=torch.float64) + 0.5
    drawn = torch.rand(500, 3, 120, generator=generator, dtype=torch.float64)
    x = (drawn / drawn.sum(1, keepdim=True)).requires_grad_()
    kernel = DENSITIES["dirichlet"].log_prob
    found = density_total("dirichlet", kernel, [x, alpha])
    _assert_same(found, kernel(x, alpha).sum(0), [x])


@pytest.mark.parametrize("scale_shape", [(1, 1), (1, 120), (700, 1), (700, 120)])
@pytest.mark.parametrize("x_rows", [1, 120])
def test_linear_means_formed_in_blocks_give_the_same(scale_shape, x_rows):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, matrix, bias = normal(700, x_rows), normal(700, 3), normal(700, 1)
    source = normal(3, 120).requires_grad_()
    scale = (normal(*scale_shape).abs() + 0.5).requires_grad_()
    found = linear_normal_total(x, source, scale, matrix, bias)
    kernel = DENSITIES["normal"].log_prob
    expected = kernel(x, torch.addmm(bias, matrix, source), scale).sum(0)
    _assert_same(found, expected, [source, scale])


@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_totals_can_be_differentiated_twice(family):
    arguments = _arguments(SHAPES[0], scale="any")
    kernel = DENSITIES[family].log_prob

    def hessian_vector(total):
        first = torch.autograd.grad(total.sum(), arguments[1], create_graph=True)[0]
        return torch.autograd.grad((first**2).sum(), arguments[1:], allow_unused=True)

    found = hessian_vector(density_total(family, kernel, arguments))
    expected = hessian_vector(kernel(*arguments).sum(0))
    for a, b in zip(found, expected, strict=True):
        zero = torch.zeros(())
        assert torch.allclose(zero if a is None else a, zero if b is None else b)


def test_a_density_that_is_flat_has_no_slope():
    """A density may read its arguments only to decide where it is positive."""
    arguments = _arguments(SHAPES[1], scale="any")

    def flat(value, low, high):
        return torch.where((low < value) & (value < high), 0.0, -1.0).double()

    total = density_total("uniform", flat, arguments)
    assert torch.equal(total, flat(*arguments).sum(0))
    slopes = torch.autograd.grad(total.sum(), arguments)
    assert all(torch.equal(each, torch.zeros_like(each)) for each in slopes)


def test_linear_totals_can_be_differentiated_twice():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(700, 3, generator=generator, dtype=torch.float64)
    x = torch.zeros(700, 1, dtype=torch.float64)
    scale = torch.ones(1, 1, dtype=torch.float64)
    source = torch.randn(3, 120, generator=generator, dtype=torch.float64)
    source.requires_grad_()
    total = linear_normal_total(x, source, scale, matrix, x)
    (first,) = torch.autograd.grad(total.sum(), source, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), source)
    expected = -(matrix.T @ matrix).sum(0)
    assert torch.allclose(second, expected[:, None].expand(3, 120))


def test_a_negative_scale_gives_nan_in_every_form():
    arguments = [value.detach() for value in _arguments(SHAPES[0], scale="any")]
    arguments[2][:, 3] = -1.0
    arguments[2][:, 4] = 0.0
    kernel = DENSITIES["normal"].log_prob
    for shape in (700, 5):
        cut = [a[:shape] for a in arguments]
        total = density_total("normal", kernel, cut)
        assert torch.isnan(total[3:5]).all()
        assert torch.isfinite(total[:3]).all()


@pytest.mark.parametrize("shape", [(1, 120), (700, 120)])
def test_scales_whose_squares_are_no_numbers_are_scales(shape):
    """The square of 1e-170 is 0, and one over it infinite."""
    x, mean, scale = _arguments([(700, 120), (1, 120), shape], scale="any")
    with torch.no_grad():
        x *= 1e-170
        mean *= 1e-170
        scale *= 1e-170
    kernel = DENSITIES["normal"].log_prob
    found = density_total("normal", kernel, [x, mean, scale])
    expected = kernel(x, mean, scale).sum(0)
    assert torch.allclose(found, expected, rtol=1e-12)
    (slope,) = torch.autograd.grad(found.sum(), scale)
    (exact,) = torch.autograd.grad(expected.sum(), scale)
    assert torch.allclose(slope * 1e-170, exact * 1e-170, rtol=1e-10)

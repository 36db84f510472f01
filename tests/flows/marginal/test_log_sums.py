"""Tests of flows.marginal.log_sums: sums in log space and their gradients."""

import math

import pytest
import torch

from flows.marginal.log_sums import LogSum


def tables(seed, *shapes, impossible=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in shapes:
        table = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        gone = torch.rand(shape, generator=generator) < impossible
        made.append(torch.where(gone, -math.inf, table).requires_grad_())
    return made


def agree(left, right, expected):
    """Compare value and gradients with those of an expression of both tables."""
    with torch.no_grad():
        found = LogSum.of(left, right)
    torch.testing.assert_close(found.value, expected, atol=1e-10, rtol=1e-13)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    given = [left] if right is None else [left, right]
    slopes = torch.autograd.grad((expected * weights).sum(), given)
    gradients = found.gradients(weights)
    for table, slope, other in zip(given, slopes, gradients, strict=False):
        other = other.sum_to_size(table.shape)
        torch.testing.assert_close(other, slope, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 3, 2, 5), (4, 3, 3, 5)],
        [(4, 3, 2, 5), (1, 3, 3, 1)],
        [(1, 3, 2, 1), (4, 3, 1, 5)],
        [(2, 12, 4, 1), (2, 12, 3, 1)],
        [(2, 12, 4, 6), (2, 12, 3, 6)],
    ],
)
@pytest.mark.parametrize("scale", [1.0, 400.0, 2000.0])
def test_a_product_has_the_value_and_gradient_of_every_pair(shapes, scale):
    left, right = tables(0, *shapes, scale=scale)
    agree(left, right, torch.logsumexp(left.unsqueeze(3) + right.unsqueeze(2), 1))


def test_a_sum_has_the_value_and_gradient_of_logsumexp():
    (table,) = tables(3, (3, 4, 2, 5), scale=50.0)
    agree(table, None, torch.logsumexp(table, 1).unsqueeze(2))


@pytest.mark.parametrize("scale", [1.0, 2000.0])
def test_what_is_impossible_has_no_gradient_and_leaves_the_rest_as_it_is(scale):
    left, right = tables(2, (5, 4, 3, 2), (5, 4, 3, 2), impossible=0.6, scale=scale)
    left, right = left.detach(), right.detach()
    found = LogSum.of(left, right)
    pairs = left.unsqueeze(3) + right.unsqueeze(2)
    expected = torch.logsumexp(pairs, 1)
    assert bool((expected == -math.inf).any())
    torch.testing.assert_close(found.value, expected, atol=1e-10, rtol=0)
    share = torch.exp(pairs - expected.unsqueeze(1)).nan_to_num(0.0)
    slopes = found.gradients(torch.ones_like(expected))
    torch.testing.assert_close(slopes[0], share.sum(3), atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(slopes[1], share.sum(2), atol=1e-12, rtol=1e-10)

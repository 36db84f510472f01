"""Tests of flows.marginal.log_sums: sums in log space and their gradients."""

import math

import pytest
import torch

from flows.marginal.log_sums import log_product, log_sum


def tables(seed, *shapes, impossible=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in shapes:
        table = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        gone = torch.rand(shape, generator=generator) < impossible
        made.append(torch.where(gone, -math.inf, table).requires_grad_())
    return made


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
    expected = torch.logsumexp(left.unsqueeze(3) + right.unsqueeze(2), 1)
    found = log_product(left, right)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-13)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    slopes = torch.autograd.grad((found * weights).sum(), [left, right])
    others = torch.autograd.grad((expected * weights).sum(), [left, right])
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(slope, other, atol=1e-10, rtol=1e-10)


def test_what_is_impossible_has_no_gradient_and_leaves_the_rest_as_it_is():
    left, right = tables(2, (5, 4, 3, 2), (5, 4, 3, 2), impossible=0.6)
    found = log_product(left, right)
    pairs = left.unsqueeze(3) + right.unsqueeze(2)
    expected = torch.logsumexp(pairs, 1)
    assert bool((expected == -math.inf).any())
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    slopes = torch.autograd.grad(found[found > -math.inf].sum(), [left, right])
    share = torch.exp(pairs - expected.unsqueeze(1)).nan_to_num(0.0).detach()
    torch.testing.assert_close(slopes[0], share.sum(3), atol=1e-12, rtol=0)
    torch.testing.assert_close(slopes[1], share.sum(2), atol=1e-12, rtol=0)


def test_a_sum_has_the_value_and_gradient_of_logsumexp():
    (table,) = tables(3, (3, 4, 2, 5), scale=50.0)
    found, expected = log_sum(table), torch.logsumexp(table, 1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    (slope,) = torch.autograd.grad(found.square().sum(), table)
    (other,) = torch.autograd.grad(expected.square().sum(), table)
    torch.testing.assert_close(slope, other, atol=1e-10, rtol=1e-12)

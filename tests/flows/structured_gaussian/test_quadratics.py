"""Tests of flows.structured_gaussian.quadratics."""

import numpy as np
import pytest
import torch

from flows.structured_gaussian.quadratics import Quadratic, num_numbers


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_numbers_are_those_that_it_was_made_of(k):
    numbers = drawn(5, num_numbers(k))
    found = Quadratic.from_numbers(numbers, k)
    torch.testing.assert_close(found.numbers, numbers)


def test_natural_parameters_come_back():
    root = drawn(6, 3, 3)
    precision, linear = root.mT @ root, drawn(6, 3)
    found = Quadratic.from_natural(precision, linear)
    assert torch.equal(found.root, found.root.tril())
    torch.testing.assert_close(found.natural[0], precision, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.natural[1], linear)


def test_sharp_and_flat_parts_add_up_in_the_linear_term():
    found = Quadratic.from_numbers(drawn(num_numbers(2)), 2)
    w = drawn(2)
    gap = found.root @ w - found.sharp
    wanted = -0.5 * gap @ gap + found.flat @ w + 0.5 * found.sharp @ found.sharp
    precision, linear = found.natural
    torch.testing.assert_close(-0.5 * w @ precision @ w + linear @ w, wanted)


def test_prior_of_draws_is_their_normal_given_the_others():
    draws = drawn(20_000, 3)
    draws[:, 2] = 0.5 * draws[:, 0] - draws[:, 1] + 2.0 + 0.3 * draws[:, 2]
    found = Quadratic.of_prior(draws, own=1)
    assert found.root[2].tolist() == pytest.approx([-5 / 3, 10 / 3, 10 / 3], rel=0.03)
    assert float(found.sharp[2]) == pytest.approx(20 / 3, rel=0.03)


def test_likelihood_of_draws_is_that_of_their_regression():
    draws = drawn(20_000, 2)
    noise = np.random.default_rng(0).normal(size=20_000)
    value = 2.0 * draws[:, 0] - draws[:, 1] + 1.0 + 0.5 * torch.tensor(noise)
    found, growth = Quadratic.of_likelihood(draws, value)
    slope = np.array([2.0, -1.0])
    precision = found.natural[0].numpy()
    np.testing.assert_allclose(precision, np.outer(slope, slope) / 0.25, atol=0.4)
    np.testing.assert_allclose(growth, slope / 0.25, rtol=0.03)
    np.testing.assert_allclose(found.flat, -slope / 0.25, rtol=0.05)

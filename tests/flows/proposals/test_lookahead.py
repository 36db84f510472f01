"""Tests of flows.proposals.lookahead."""

import math

import pytest
import torch

from flows.proposals.lookahead import Message


def rows(num=200, columns=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num, columns)
    return 2.0 + 5.0 * torch.randn(shape, dtype=torch.float64, generator=generator)


def quadratic(free):
    x, y = free[:, 0], free[:, 2]
    return 3.0 - x + 0.5 * y - 0.2 * x * x + 0.3 * x * y - 0.7 * y * y


def test_the_log_of_a_normal_density_is_found_exactly():
    free = rows()
    message = Message.fitted([0, 2], free, quadratic(free))
    other = rows(num=50, seed=1)
    torch.testing.assert_close(message(other), quadratic(other))


def test_draws_that_miss_do_not_count():
    free = rows()
    wanted = quadratic(free)
    wanted[3], wanted[5], wanted[7] = -math.inf, math.nan, -1e9
    message = Message.fitted([0, 2], free, wanted)
    torch.testing.assert_close(message(free), quadratic(free))


def test_far_from_all_that_was_seen_a_message_is_flat():
    free = rows()
    message = Message.fitted([0, 2], free, quadratic(free))
    edge = free.amax(0) + 0.5 * (free.amax(0) - free.amin(0))
    far = torch.stack([edge, edge + 1.0, edge + 1e6])
    found = message(far)
    assert found[0] == found[1] == found[2]
    assert abs(float(found[0])) < 1e5


@pytest.mark.parametrize(
    ("columns", "num", "wanted"),
    [([], 200, 0.0), ([0, 1, 2], 29, 0.0), ([0], 200, -math.inf), ([0], 200, math.nan)],
)
def test_nothing_is_said_where_nothing_can_be(columns, num, wanted):
    wanted = torch.full((num,), wanted, dtype=torch.float64)
    assert Message.fitted(columns, rows(num), wanted) is None


def test_of_many_columns_squares_are_read_but_no_products():
    free = rows(num=500, columns=20)
    wanted = free.square().sum(1) - free[:, 3]
    message = Message.fitted(range(20), free, wanted)
    assert len(message.slopes) == 41
    torch.testing.assert_close(message(free), wanted)


def test_a_column_that_never_varies_does_no_harm():
    free = rows()
    free[:, 1] = 4.0
    message = Message.fitted([0, 1, 2], free, quadratic(free))
    torch.testing.assert_close(message(free), quadratic(free))

"""Tests of flows.marginal.reads."""

import numpy as np
import pytest
import torch

from flows.marginal.reads import Read

SHAPE = (4, 3, 2)

POSITIONS = {
    "in order": np.arange(24).reshape(SHAPE) + 5,
    "members last": np.arange(24).reshape(3, 2, 4).transpose(2, 0, 1),
    "every second member": np.arange(42).reshape(3, 2, 7).transpose(2, 0, 1)[::2],
    "values and rest changed": np.arange(24).reshape(4, 2, 3).transpose(0, 2, 1),
    "one entry often": np.arange(24).reshape(SHAPE) // 2,
    "shared by members": np.broadcast_to(np.arange(6).reshape(1, 3, 2), SHAPE),
    "backwards": np.arange(24)[::-1].reshape(SHAPE),
    "in no order": np.random.default_rng(0).integers(0, 40, SHAPE),
}
VIEWS = (
    "in order",
    "members last",
    "every second member",
    "values and rest changed",
    "shared by members",
)


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_read_has_the_numbers_at_its_positions_and_their_gradient(kind):
    positions = POSITIONS[kind]
    read = Read.of(0, positions)
    assert (read.positions is None) == (kind in VIEWS)
    block = torch.randn(50, 3, dtype=torch.float64).requires_grad_()
    found = read.of_blocks([block]).expand(*SHAPE, 3)
    expected = block[torch.from_numpy(positions.copy())]
    assert torch.equal(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    slopes = [
        torch.autograd.grad((part * weights).sum(), block)[0]
        for part in (found, expected)
    ]
    torch.testing.assert_close(*slopes)
    own = torch.zeros_like(block)
    with torch.no_grad():
        read.add(weights.sum_to_size(*read.shape, 3), own)
    torch.testing.assert_close(own, slopes[1])


def test_many_tables_of_one_member_are_counted():
    columns = [np.array([[[0, n], [2, 2]]]) for n in range(4)]
    block = torch.randn(4, 3, dtype=torch.float64)
    block[1, 0] = -torch.inf
    found = Read.counted(0, columns).of_blocks([block])
    expected = sum(block[torch.from_numpy(column)] for column in columns)
    torch.testing.assert_close(found, expected)

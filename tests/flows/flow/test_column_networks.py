"""Tests of flows.flow.column_networks; what it computes: autoregressive's conditioner.

`tests/flows/autoregressive/test_conditioner.py` takes networks one by one.
"""

import torch

from flows.autoregressive.conditioner import NetworkConfig
from flows.flow.column_networks import ColumnNetworks, rounds_of


def test_columns_wait_for_all_that_they_wait_for():
    assert rounds_of([(), (0,), (), (1, 2), (0,)]) == [[0, 2], [1, 4], [3]]


def test_networks_give_their_bias_at_first_where_the_last_layer_is_flat():
    bias = torch.tensor([0.5, -1.0])
    shape = NetworkConfig(last_layer_scale=0.0)
    generator = torch.Generator().manual_seed(0)
    networks = ColumnNetworks([(0,), (), (1, 0)], shape, bias, generator)
    found = networks.outputs(torch.randn(4, 2), networks.whole)
    torch.testing.assert_close(found, bias.expand(3, 4, 2))


def _made(reads, hidden=6):
    generator = torch.Generator().manual_seed(1)
    shape = NetworkConfig(hidden=hidden, layers=1)
    return ColumnNetworks(reads, shape, torch.zeros(1), generator)


def _around_a_level(count, columns=5):
    """Numbers that nearly are one; of the other directions three are narrow."""
    generator = torch.Generator().manual_seed(2)
    level = torch.randn(count, 1, generator=generator)
    apart = 0.01 * torch.randn(count, columns, generator=generator)
    return level + apart


def test_half_of_the_units_see_all_directions_alike_once_whitened():
    """A unit of weights w then has the variance |w|^2, whatever the covariance."""
    reads = [(0, 2, 4), (1,), (4, 3, 1)]
    networks, plain = _made(reads), _made(reads)
    given = _around_a_level(4000)
    networks.whiten(given)
    for column, place in ((0, 1), (2, 2)):
        own = slice(networks.starts[place], networks.starts[place + 1])
        before = plain.first[own].detach().double()
        after = networks.first[own].detach().double()
        seen = given[:, list(reads[column])].double() @ after
        torch.testing.assert_close(
            seen.var(0)[:3], before[:, :3].square().sum(0), rtol=1e-3, atol=0
        )
        torch.testing.assert_close(after[:, 3:], before[:, 3:])
    first = slice(networks.starts[0], networks.starts[1])
    torch.testing.assert_close(networks.first[first], plain.first[first])


def test_what_never_varies_and_what_too_few_draws_say_is_not_blown_up():
    constant = _around_a_level(1000)
    constant[:, 2] = 3.0
    constant[5, 1] = torch.nan
    constant[6, 1] = 1e30
    few = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    for given, most in ((constant, 1e3), (few, 5.0)):
        networks, plain = _made([(0, 1, 2, 3, 4)]), _made([(0, 1, 2, 3, 4)])
        networks.whiten(given)
        largest = float(plain.first.detach().norm(dim=0).max())
        assert float(networks.first.detach().norm(dim=0).max()) < most * largest


def test_networks_without_reads_or_draws_stay():
    for reads, given in (([()], torch.randn(9, 2)), ([(0, 1)], torch.randn(1, 2))):
        networks, plain = _made(reads), _made(reads)
        networks.whiten(given)
        torch.testing.assert_close(networks.first, plain.first)

"""Tests of flows.structured_gaussian.numbers."""

import torch

from flows.structured_gaussian.numbers import Network, Table, network_widths


def test_numbers_start_linear_in_the_first_column_of_data():
    widths = network_widths(2, 3, 1, 4, hidden=5, layers=2)
    network = Network(2, widths, torch.Generator().manual_seed(0))
    constant, slopes = torch.arange(4.0), torch.arange(4.0) - 2.0
    with torch.no_grad():
        network.weights[-1].zero_()
        network.start(constant, slopes)
        data = torch.randn(6, 3, 2)
        found = network(data, torch.randn(3, 2))
    torch.testing.assert_close(found, constant + data[..., :1] * slopes)


def test_potential_has_the_numbers_of_its_own_data_and_place():
    widths = network_widths(1, 3, 1, 4, hidden=5, layers=1)
    network = Network(1, widths, torch.Generator().manual_seed(0))
    data, lies = torch.randn(2, 3, 1), torch.randn(3, 2)
    jacobian = torch.autograd.functional.jacobian(lambda d: network(d, lies), data)
    across = jacobian.abs().sum((2, 5))[:, :, :, :]
    for row in range(2):
        for place in range(3):
            read = across[row, place].nonzero().tolist()
            assert read == [[row, place]]


def test_table_gives_each_potential_its_own():
    table = Table(3, 2)
    with torch.no_grad():
        table.values.copy_(torch.arange(6.0).reshape(3, 2))
    found = table(torch.zeros(5, 3, 0), torch.zeros(3, 2))
    assert found.tolist() == [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]]

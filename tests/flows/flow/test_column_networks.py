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

"""Tests of flows.flow.packing."""

import torch

from flows.flow.structure import StateBlock, Structure


def test_packing_places_blocks_row_major_in_the_order_parents_then_self():
    structure = Structure(
        (StateBlock("u", (0,), 1, (), ()), StateBlock("v", (1,), 0, (0,), ())), 0
    )
    packing = structure.packing((2, 3), structure.sizes)
    dense = torch.zeros(5 * 3)
    dense[packing.dense_index()] = torch.arange(1.0, packing.size + 1)
    expected = [
        [1, 2, 0],
        [3, 4, 0],
        [5, 6, 11],
        [7, 8, 12],
        [9, 10, 13],
    ]
    assert dense.view(5, 3).tolist() == expected
    assert packing.last_block_index([1]).tolist() == [[[10], [11], [12]]]

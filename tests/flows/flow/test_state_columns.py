"""Tests of flows.flow.state_columns."""

import torch
from torch.distributions import Normal

from flows.flow.state_columns import StateColumns
from flows.flow.structure import StateBlock, Structure

STRUCTURE = Structure(
    (StateBlock("b", (1, 2), 0, (), ()), StateBlock("a", (0,), 2, (0,), ())), 0
)


def test_columns_stand_node_after_node_and_split_undoes_join():
    columns = StateColumns(STRUCTURE)
    free = torch.tensor([[1.0, 2.0, 3.0]])
    nuisances = torch.tensor([[4.0, 5.0]])
    state = columns.join(free, nuisances)
    assert state.tolist() == [[2.0, 3.0, 1.0, 4.0, 5.0]]
    back = columns.split(state)
    assert torch.equal(back[0], free)
    assert torch.equal(back[1], nuisances)


def test_sums_and_masks_are_by_node():
    columns = StateColumns(STRUCTURE)
    base = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    terms = Normal(0.0, 1.0).log_prob(base)
    wanted = torch.stack([terms[:, :2].sum(1), terms[:, 2:].sum(1)], 1)
    torch.testing.assert_close(columns.base_log_prob(base), wanted)
    assert columns.of_nodes(["b"]).tolist() == [True, True, False, False, False]


def test_base_points_are_drawn_by_the_generator_and_nothing_is_in_the_state():
    columns = StateColumns(STRUCTURE)
    like = torch.zeros(0, dtype=torch.float64)
    one, two = (
        columns.sample_base(4, like, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert one.dtype == torch.float64
    assert one.shape == (4, 5)
    assert torch.equal(one, two)
    assert columns.state_dict() == {}

"""Tests of flows.flow.structure."""

import pytest

from flows.flow.structure import StateBlock, Structure
from tests.flows.cnf.models import Circuit


def test_full_cliques_have_eleven_squared_entries_per_edge():
    structure = Circuit.structure(10)
    latent_edges = 9
    expected = (latent_edges + 6) * 11**2
    assert structure.packing(structure.sizes, structure.sizes).size == expected == 1815
    assert 4 * (expected - 66) + 33 + 4 * 4 * 66 == 8085


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (StateBlock("v", (1,), 0, (1,), ()), "latent parents"),
        (StateBlock("v", (1,), -1, (0,), ()), "nuisance"),
        (StateBlock("v", (1,), 0, (0,), (5,)), "observed columns"),
        (StateBlock("v", (), 0, (0,), ()), "free"),
    ],
)
def test_block_that_breaks_the_law_is_refused(block, message):
    first = StateBlock("u", (0,), 0, (), ())
    with pytest.raises(ValueError, match=message):
        Structure((first, block), observed_dim=2)


def test_reach_is_the_transitive_closure():
    structure = Circuit.structure()
    names = structure.names
    closure = [{names[j] for j in reach} for reach in structure.reach]
    assert closure[0] == {"z5"}
    assert closure[2] == {"z2", "z3", "z5"}
    assert closure[5] == {"z4", "z3", "z5"}
    assert structure.observed_reach[5] == {0, 1}

"""Tests of flows.cnf.structure."""

from dataclasses import dataclass

import pytest
import torch

from flows.cnf.structure import (
    StateBlock,
    Structure,
    build_structure,
    original_edge_count,
)

from .models import Circuit


@dataclass(frozen=True)
class Var:
    """A variable of a layout."""

    name: str
    start: int
    stop: int
    free_start: int
    free_stop: int


@dataclass(frozen=True)
class Lay:
    """A layout."""

    latents: tuple[Var, ...]
    observed: tuple[Var, ...]


@dataclass(frozen=True)
class Inv:
    """An inverse."""

    latents: tuple[str, ...]
    parents: dict[str, tuple[str, ...]]


LAYOUT = Lay(
    (Var("a", 0, 1, 0, 1), Var("b", 1, 4, 1, 3)),
    (Var("x", 0, 2, 0, 2), Var("y", 2, 3, 2, 3)),
)


def test_paper_count_of_the_faithful_structure_comes_out():
    structure = Circuit.structure(10)
    entries = original_edge_count(structure)
    observed = structure.observed_packing(structure.sizes).size
    assert entries == 1725
    assert observed == 33
    # weights without self-loops, observed weights, and four vectors per layer
    assert 4 * (entries - 66) + observed + 4 * 4 * 66 == 7725


def test_full_cliques_have_eleven_squared_entries_per_edge():
    structure = Circuit.structure(10)
    latent_edges = 9
    expected = (latent_edges + 6) * 11**2
    assert structure.packing(structure.sizes, structure.sizes).size == expected == 1815
    assert 4 * (expected - 66) + 33 + 4 * 4 * 66 == 8085


def test_built_structure_has_the_columns_of_the_layout_and_parents_of_the_inverse():
    inverse = Inv(("b", "a"), {"b": ("y",), "a": ("x", "b", "y")})
    structure = build_structure(inverse, LAYOUT, {"a": 2})
    assert structure == Structure(
        (
            StateBlock("b", (1, 2), 0, (), (2,)),
            StateBlock("a", (0,), 2, (0,), (0, 1, 2)),
        ),
        observed_dim=3,
    )
    assert structure.names == ("b", "a")
    # state columns: b's two free columns, a's one, a's nuisances
    assert structure.state_order == (1, 2, 0, 3, 4)


def test_inverse_with_other_latents_is_refused():
    with pytest.raises(ValueError, match=r"structure: .*; expected .*; got \['a'\]"):
        build_structure(Inv(("a",), {"a": ()}), LAYOUT)


def test_unknown_parent_is_refused():
    inverse = Inv(("b", "a"), {"b": ("q",), "a": ()})
    with pytest.raises(ValueError, match=r"unknown parent of b; .*; got q"):
        build_structure(inverse, LAYOUT)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (StateBlock("v", (1,), 0, (1,), ()), "latent parents"),
        (StateBlock("v", (1,), -1, (0,), ()), "nuisances"),
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

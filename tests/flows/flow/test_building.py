"""Tests of flows.flow.building."""

from dataclasses import dataclass

import pytest
import torch

from daphne_bridge.inversion.nami import invert
from flows.flow.building import build_structure, structure_at
from flows.flow.structure import StateBlock, Structure
from flows.model.layout import Layout, Variable
from flows.model.model import Model


@dataclass(frozen=True)
class Inv:
    """An inverse."""

    latents: tuple[str, ...]
    parents: dict[str, tuple[str, ...]]


LAYOUT = Layout(
    (Variable("a", "a", (), 0, 1, 0, 1), Variable("b", "b", (3,), 1, 4, 1, 3)),
    (Variable("x", "x", (2,), 0, 2), Variable("y", "y", (), 2, 3)),
)


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


def test_the_structure_of_one_data_set_reads_latents_and_no_data(pair_graph):
    model = Model.from_graph(pair_graph)
    draws = model.sample(500, generator=torch.Generator().manual_seed(0))
    data = model.observation()
    found = structure_at(invert(pair_graph), model.layout, draws.latents, data, 1)
    whole = build_structure(invert(pair_graph), model.layout, 1)
    assert any(block.observed_columns for block in whole.blocks)
    assert not any(block.observed_columns for block in found.blocks)
    assert [b.latent_parents for b in found.blocks] == [
        b.latent_parents for b in whole.blocks
    ]
    assert found.observed_dim == whole.observed_dim

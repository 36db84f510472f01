"""Tests of flows.front.new_flow, and of the kind that `train` takes beside heads."""

import pytest

from flows.front.material import Material
from flows.front.new_flow import new_flow
from flows.front.train import settings_for
from flows.heads.flow import HeadedFlow
from flows.model.model import Model
from flows.training.processes import ALONE
from tests.flows.heads.programs import FLIPS, MIXED


def made(text, config):
    model = Model.from_program(text)
    settings = settings_for(model, {"normalisation_draws": 1000} | config)
    material = Material.of(model, None, settings)
    flow, inverse = new_flow(model, material, settings, seed=0, alone=None, ranks=ALONE)
    return settings, flow, inverse


def test_discrete_latents_alone_stand_beside_the_flow_of_no_latents():
    _, flow, inverse = made(FLIPS, {"heads": "all", "kind": "finite"})
    assert isinstance(flow, HeadedFlow)
    assert flow.inner.structure.blocks == ()
    assert set(inverse.latents) == {"sample0", "sample1", "sample2"}


@pytest.mark.parametrize(
    ("config", "kind", "has_heads"),
    [
        ({}, "autoregressive", False),
        ({"augment": 1}, "cnf", False),
        ({"heads": "all"}, "autoregressive", True),
        ({"heads": "all", "kind": "finite"}, "finite", True),
    ],
)
def test_beside_heads_the_kind_is_the_best_unless_told(config, kind, has_heads):
    settings, flow, inverse = made(MIXED, config)
    assert settings.kind == flow.kind == kind
    assert isinstance(flow, HeadedFlow) == has_heads
    assert len(inverse.latents) == (4 if has_heads else 1)

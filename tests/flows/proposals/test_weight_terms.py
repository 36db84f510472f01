"""Tests of flows.proposals.weight_terms: parts add up, and look at nothing later."""

import pytest
import torch

from daphne_bridge.inversion.nami import invert
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.proposals.flow import FlowProposal
from flows.proposals.weight_terms import Contributions

from ..model.programs import PROGRAMS, graph_of

BOUNDED = """
(let [low (sample (normal 0 1))
      width (sample (gamma 2 2))
      x (sample (uniform-continuous low (+ low width)))
      p (sample (beta 2 3))
      parts (sample (dirichlet [1.0 2.0 3.0]))]
  (observe (normal (+ x p) 1) 0.5)
  (observe (normal (* width (get parts 1)) 0.3) 0.2)
  x)"""


def random_flow(text):
    """Return a model and a flow with nuisances and random weights."""
    graph = graph_of(text)
    model = Model.from_graph(graph)
    structure = build_structure(invert(graph), model.layout, nuisances=1)
    config = FieldConfig(layers=3, hidden=4)
    flow = build_flow(structure, config, seed=3).double()
    flow = flow.solved_by(AdaptiveEngine(1e-9))
    draws = model.sample(500, generator=torch.Generator().manual_seed(1))
    flow.normalisation.fit(model.unconstrain(draws.latents)[0], draws.observed)
    return model, flow


@torch.no_grad()
def parts_of(model, flow, base):
    observed = model.observation().expand(base.shape[0], -1)
    return Contributions(model, flow)(flow.from_base(base, observed), observed)


@pytest.mark.parametrize("text", [BOUNDED, PROGRAMS["gaussian_tree"]])
def test_the_parts_add_up_to_the_log_weight(text):
    model, flow = random_flow(text)
    base = flow.sample_base(50, generator=torch.Generator().manual_seed(0))
    latents, parts = parts_of(model, flow, base)
    observed = model.observation()
    with torch.no_grad():
        draw = FlowProposal(flow, model).from_base(base, observed)
    torch.testing.assert_close(latents, draw.latents)
    expected = model.log_joint(draw.latents, observed) - draw.log_prob
    torch.testing.assert_close(parts.sum(1), expected)


@pytest.mark.parametrize("text", [BOUNDED, PROGRAMS["gaussian_tree"]])
def test_a_part_depends_on_latents_so_far_alone(text):
    model, flow = random_flow(text)
    base = flow.sample_base(20, generator=torch.Generator().manual_seed(0))
    _, parts = parts_of(model, flow, base)
    for step in range(1, parts.shape[1]):
        other = base.clone()
        other[:, flow.columns.node >= step] += 0.5
        _, moved = parts_of(model, flow, other)
        torch.testing.assert_close(
            moved[:, :step], parts[:, :step], rtol=1e-5, atol=1e-5
        )
        assert bool((moved[:, step:] != parts[:, step:]).any())

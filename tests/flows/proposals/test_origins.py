"""Tests of flows.proposals.flow: a flow weighs right however it came into being."""

import copy

import pytest
import torch
from scipy.stats import norm

from flows.cnf.engine import AdaptiveEngine, TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.inference.log_weight import checked_log_weights
from flows.model.model import Model
from flows.proposals.flow import FlowMap, FlowProposal
from flows.proposals.flow_sequence import FlowSequence
from flows.storage.artifact import Artifact
from flows.training.config import training_config_from
from flows.training.loop import fit

from ..training.test_loop import FAST

MOST_ERROR = 1e-4


@pytest.fixture
def made(pair_graph):
    """Return model, graph and a float32 flow that is hard to solve in ten steps."""
    model = Model.from_graph(pair_graph)
    flow = build_flow(model, FieldConfig(layers=2, hidden=8), seed=1, nuisances=1)
    draws = model.sample(2000, generator=torch.Generator().manual_seed(2))
    flow.fit_normalisation(model.unconstrain(draws.latents)[0], draws.observed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(12.0)
    return model, pair_graph, flow


def trained(model, _graph, flow, _path):
    for _ in fit(model, flow, training_config_from(FAST, where="test"), seed=0):
        pass
    return flow


def stored(model, graph, flow, path):
    artifact = Artifact.from_flow(
        flow, graph, model.layout, seed=1, config={}, metrics={}
    )
    artifact.save(path / "artifact")
    return Artifact.load(path / "artifact")


def loaded_into_another(model, _graph, flow, _path):
    other = build_flow(model, flow.config, seed=9, nuisances=1)
    other.load_state_dict(flow.state_dict())
    return other


ORIGINS = {
    "build_flow": lambda _model, _graph, flow, _path: flow,
    "fit": trained,
    "artifact.flow": lambda *made: stored(*made).flow(),
    "artifact.flow_for": lambda model, graph, flow, path: stored(
        model, graph, flow, path
    ).flow_for(graph, model.layout),
    "copy": lambda _model, _graph, flow, _path: copy.copy(flow),
    "deepcopy": lambda _model, _graph, flow, _path: copy.deepcopy(flow),
    "double": lambda _model, _graph, flow, _path: flow.double(),
    "load_state_dict": loaded_into_another,
}


def exact_log_weights(model, flow, draw):
    """Return them by a solve of tolerance 1e-9 of a double copy of the flow."""
    free, log_det = model.unconstrain(draw.latents)
    rows = model.observation().expand(len(free), -1)
    flow = copy.deepcopy(flow).double().solved_by(AdaptiveEngine(1e-9))
    with torch.no_grad():
        log_prob = flow.log_prob(free, draw.nuisances, rows)
    reference = torch.from_numpy(norm.logpdf(draw.nuisances.numpy()).sum(1))
    return model.log_joint(draw.latents, rows) - log_prob + log_det + reference


@pytest.mark.parametrize("origin", ORIGINS)
def test_log_weights_are_exact_and_float64_however_a_flow_came_into_being(
    origin, made, tmp_path
):
    model, data = made[0], made[0].observation()
    flow = ORIGINS[origin](*made, tmp_path)
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    proposal = FlowProposal(flow, model)
    draw = proposal.rsample_and_log_prob(
        data, 200, generator=torch.Generator().manual_seed(0)
    )
    found = checked_log_weights(model, draw, data).detach()
    assert found.dtype == torch.float64
    expected = exact_log_weights(model, flow, draw)
    assert float((found - expected).abs().max()) < MOST_ERROR
    with torch.no_grad():
        again = proposal.log_prob(draw.latents, draw.nuisances, data)
    assert float((again - draw.log_prob).abs().max()) < 2 * MOST_ERROR
    # The flow itself is as it was.
    for name, tensor in flow.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_without_the_proposal_ten_steps_of_the_same_flow_are_off(made):
    """The laws above have something to find."""
    model, _, flow = made
    flow = flow.double().solved_by(TorchEngine(10))
    base = flow.sample_base(200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        draw = FlowMap(flow, model).from_base(base, model.observation())
    found = checked_log_weights(model, draw, model.observation())
    error = (found - exact_log_weights(model, flow, draw)).abs().max()
    assert float(error) > 10 * MOST_ERROR


def test_latent_by_latent_a_flow_weighs_as_exactly(made):
    model, _, flow = made
    data = model.observation()
    generator = torch.Generator().manual_seed(99)
    sequence = FlowSequence.fitted(model, flow, data, generator=generator)
    with torch.no_grad():
        state = sequence.start(100, generator=torch.Generator().manual_seed(0)).state
    width = flow.structure.nuisance_dim
    split = [flow.structure.free_dim, width, sequence.num_steps, 1]
    _, nuisances, weighed, _ = torch.split(state, split, 1)
    draw = FlowProposal(flow, model).rsample_and_log_prob(
        data, 100, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(draw.nuisances, nuisances)
    expected = exact_log_weights(model, flow, draw)
    assert float((weighed.sum(1) - expected).abs().max()) < MOST_ERROR


def test_a_flow_that_is_solved_more_exactly_than_asked_stays_so(made):
    model, _, flow = made
    exact = FlowProposal(flow, model, tolerance=1e-9).flow
    assert exact.engine == AdaptiveEngine(1e-9)
    assert FlowProposal(exact, model).flow is exact
    assert FlowProposal(exact, model, tolerance=1e-12).flow is not exact

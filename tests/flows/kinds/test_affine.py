"""Tests that a kind of flow is a plug-in: one folder and one line."""

import json

import pytest
import torch
from torch.distributions import Normal

from flows.errors import ArgumentError
from flows.flow.kinds import KINDS, build_flow, for_weights, solved_with
from flows.front.train import train
from flows.inference.weights import WeightTotals
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model
from flows.storage.artifact import Artifact
from flows.training.certification import certify
from flows.training.config import training_config_from
from flows.training.loop import fit
from flows.training.state import TrainingState
from tests.flows.cnf.models import state_space

SHORT = {
    "kind": "affine",
    "budget_seconds": 0,
    "max_iterations": 300,
    "average": 0.9,
    "batch_size": 32,
    "report_every": 10,
    "certify_draws": 200,
    "normalisation_draws": 2000,
    "converged_nats": 0.0,
}


@pytest.fixture(autouse=True)
def _affine_kind(monkeypatch):
    monkeypatch.setitem(KINDS, "affine", "tests.flows.kinds.affine")


def _fitted(first_scale=1.6):
    model, structure = state_space(4)
    config = training_config_from({**SHORT, "flow": {"first_scale": first_scale}}, "x")
    flow = build_flow(structure, config.flow, kind=config.kind)
    run = fit(model, flow, config, seed=0, clock=lambda: 0.0)
    return model, flow, run


def test_kind_without_abilities_is_trained_and_certified():
    model, flow, run = _fitted()
    reports = list(run)
    assert {report.phase for report in reports[:-1]} == {"training"}
    assert all(report.solver_bias is None for report in reports)
    assert reports[0].certified.symmetric.mean > 0.5
    assert reports[-1].best < 0.05
    generator = torch.Generator().manual_seed(1)
    found = certify(model, flow, 500, generator=generator).symmetric
    assert found.mean == pytest.approx(reports[-1].best, abs=0.02)
    assert flow.dtype == torch.float32


def test_interrupted_run_of_another_kind_ends_in_the_same_weights():
    _, whole, run = _fitted()
    list(run)
    model, structure = state_space(4)
    _, _, first = _fitted()
    next(first), next(first)
    state = first.state()
    stored = TrainingState(state.tensors, json.loads(json.dumps(dict(state.values))))
    config = training_config_from({**SHORT, "flow": {"first_scale": 1.6}}, "x")
    other = build_flow(structure, config.flow, kind="affine")
    list(fit(model, other, config, seed=0, state=stored, clock=lambda: 0.0))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_terms_at_the_exact_scale_are_the_conditionals_of_the_model():
    model, flow, _ = _fitted(first_scale=1.0)
    draws = model.sample(100, generator=torch.Generator().manual_seed(3))
    free, observed = draws.latents, draws.observed
    got = for_weights(flow).log_prob_per_node(free, free[:, :0], observed).detach()
    values = torch.cat([free, observed], -1)
    for position, block in enumerate(flow.structure.blocks):
        given = [flow.structure.blocks[j].free_columns[0] for j in block.latent_parents]
        given += [model.num_latents + c for c in block.observed_columns]
        column = block.free_columns[0]
        slopes, intercept, scale = model.conditional(column, given)
        mean = intercept + values[:, given] @ slopes
        wanted = Normal(mean, scale).log_prob(values[:, column])
        # regression on 2,000 draws
        assert float((got[:, position] - wanted).square().mean()) < 0.05


def test_engine_of_another_kind_is_refused_in_words():
    _, flow, _ = _fitted()
    assert solved_with(flow, "auto") is flow
    with pytest.raises(ArgumentError, match="a flow of kind affine has none; expected"):
        solved_with(flow, "fused")


def test_kind_is_saved_and_loaded(pair_graph, tmp_path):
    model = Model.from_graph(pair_graph)
    posterior = train(model, config={**SHORT, "augment": 1})
    posterior.save(tmp_path / "artifact")
    loaded = Artifact.load(tmp_path / "artifact").flow_for(pair_graph, model.layout)
    assert loaded.kind == "affine"
    rows = torch.zeros(2, 2).double()
    torch.testing.assert_close(
        loaded.log_prob(rows, rows, rows), posterior.flow.log_prob(rows, rows, rows)
    )
    particles = posterior.sample(num_particles=500, seed=0)
    assert WeightTotals.from_log_weights(particles.log_weights).ess > 100


def test_kind_is_evaluated(pair_graph):
    model = Model.from_graph(pair_graph)
    posterior = train(model, config={**SHORT, "augment": 1})
    config = EvaluationConfig(num_draws=200, num_data_sets=10, num_particles=100)
    *_, last = evaluate(model, posterior.flow, config)
    assert last.result.j.symmetric.mean < 0.1
    assert last.result.num_parameters == 8
    assert last.result.evaluations_base_to_latent == 0

"""Tests of flows.finite.kind: finite flows from training to particles.

The oracle is the exact answer of a linear-Gaussian model of two latents.
"""

import math

import pytest
import torch

from flows.errors import ArgumentError
from flows.front.train import train
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model
from flows.storage.artifact import Artifact

from ..commands.pair import exact

LOG_EVIDENCE = exact()[1]

SHORT = {
    "kind": "finite",
    "flow": {"length": 2, "hidden": 8, "layers": 1},
    "augment": 0,
    "budget_seconds": 0,
    "max_iterations": 120,
    "report_every": 40,
    "num_certifications": 1,
    "certify_draws": 400,
    "normalisation_draws": 2000,
    "converged_nats": 0.0,
}


@pytest.fixture
def model(pair_graph):
    return Model.from_graph(pair_graph)


@pytest.mark.parametrize("transform", ["planar", "radial"])
def test_trained_flow_is_saved_loaded_sampled_and_evaluated(model, tmp_path, transform):
    flow = {**SHORT["flow"], "transform": transform}
    posterior = train(model, config={**SHORT, "flow": flow, "augment": 1})
    posterior.save(tmp_path / "artifact")
    loaded = Artifact.load(tmp_path / "artifact").flow_for(model.graph, model.layout)
    assert loaded.config == posterior.flow.config
    rows = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(
        loaded.log_prob(rows, rows, rows), posterior.flow.log_prob(rows, rows, rows)
    )
    particles = posterior.sample(num_particles=2000, seed=0)
    found = float(torch.logsumexp(particles.log_weights, 0)) - math.log(2000)
    assert found == pytest.approx(LOG_EVIDENCE, abs=0.05)
    config = EvaluationConfig(num_draws=200, num_data_sets=10, num_particles=100)
    *_, last = evaluate(model, posterior.flow, config)
    assert last.result.j.symmetric.mean < 0.1


def test_free_energy_of_one_data_set_comes_down_to_minus_the_log_evidence(model):
    longer = {**SHORT, "max_iterations": 400, "average": 0.98}
    posterior = train(model, config=longer, amortised=False)
    best = posterior.metrics["best_free_energy"]
    assert -LOG_EVIDENCE - 0.02 < best < -LOG_EVIDENCE + 0.1
    assert all(not b.observed_columns for b in posterior.flow.structure.blocks)
    assert posterior.refined_for.tolist() == [0.5, 1.5]


def test_posterior_of_one_data_set_has_no_forward_divergence(model):
    with pytest.raises(ArgumentError, match="objective: the posterior of one data set"):
        train(model, config={**SHORT, "amortised": False}, objective="symmetric")


def test_shape_that_no_finite_flow_has_is_refused(model):
    table = {**SHORT, "flow": {"transform": "spiral", "length": -1}}
    with pytest.raises(ArgumentError) as caught:
        train(model, config=table)
    assert [problem.where for problem in caught.value.problems] == [
        "the configuration, flow of finite, transform",
        "the configuration, flow of finite, length",
    ]

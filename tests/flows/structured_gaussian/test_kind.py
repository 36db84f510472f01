"""Tests of flows.structured_gaussian.kind: from training to particles."""

import pytest
import torch

from flows.errors import ArgumentError
from flows.front.posterior import load, refine
from flows.front.train import train
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model
from flows.storage.artifact import Artifact

SHORT = {
    "kind": "structured-gaussian",
    "budget_seconds": 0,
    "max_iterations": 120,
    "report_every": 40,
    "num_certifications": 1,
    "certify_draws": 400,
    "normalisation_draws": 2000,
}


def test_linear_normal_model_needs_no_training(pair_graph):
    posterior = train(Model.from_graph(pair_graph), config=SHORT)
    assert abs(posterior.metrics["best_j"]) < 1e-3
    assert posterior.metrics["iterations"] == 0


def test_volatility_is_trained_saved_loaded_and_sampled(tmp_path):
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    posterior = train(model, config={**SHORT, "augment": 1, "converged_nats": 0.0})
    posterior.save(tmp_path / "artifact")
    loaded = Artifact.load(tmp_path / "artifact").flow_for(model.graph, model.layout)
    assert loaded.structure == posterior.flow.structure
    rows = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).double()
    data = model.sample(5, generator=torch.Generator().manual_seed(1)).observed
    torch.testing.assert_close(
        loaded.log_prob(rows, rows, data), posterior.flow.log_prob(rows, rows, data)
    )
    assert posterior.metrics["best_j"] < 1.0  # 3 before training
    particles = posterior.sample(num_particles=2000, seed=0)
    assert particles.summary().ess > 1000


def test_model_with_discrete_latents_is_refused():
    model = Model.compile("clj-programs/gaussian_mixture.daphne")
    with pytest.raises(ArgumentError, match="structured-gaussian"):
        train(model, config=SHORT)


@pytest.mark.parametrize("corrected_by", ["none", "autoregressive"])
def test_flow_of_one_data_set_has_its_bound_before_training(tmp_path, corrected_by):
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    config = {**SHORT, "amortised": False, "max_iterations": 2, "batch_size": 1000}
    config["flow"] = {"corrected_by": corrected_by}
    posterior = train(model, config=config)
    posterior.save(tmp_path / "artifact")
    assert posterior.metrics["best_free_energy"] == pytest.approx(9.36, abs=0.03)
    loaded = Artifact.load(tmp_path / "artifact").flow_for(model.graph, model.layout)
    assert not any(b.observed_columns for b in loaded.structure.blocks)
    particles = posterior.sample(num_particles=2000, seed=0)
    assert particles.summary().ess > 1000


@pytest.mark.parametrize(
    "corrected_by", ["none", pytest.param("autoregressive", marks=pytest.mark.slow)]
)
def test_flow_bent_to_particles_weighs_well(corrected_by):
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    flow = {"corrected_by": corrected_by}
    config = {**SHORT, "flow": flow, "learning_rate": 0.03, "batch_size": 128}
    bent = refine(model, config=config, budget=200)
    assert bent.metrics["ess_fraction"] > 0.5
    assert not any(b.observed_columns for b in bent.flow.structure.blocks)


@pytest.mark.parametrize("converged", [5e-3, 0.0])
def test_mixture_of_linear_normal_models_needs_no_training(tmp_path, converged):
    model = Model.compile("clj-programs/sensor_failure.daphne")
    posterior = train(model, config={**SHORT, "converged_nats": converged})
    posterior.save(tmp_path / "artifact")
    assert abs(posterior.metrics["best_j"]) < 1e-3
    particles = load(tmp_path / "artifact", model).sample(num_particles=500, seed=0)
    assert particles.summary().ess == pytest.approx(500.0)


def test_correction_of_a_mixture_is_refused():
    model = Model.compile("clj-programs/sensor_failure.daphne")
    config = {**SHORT, "flow": {"corrected_by": "autoregressive"}}
    with pytest.raises(ArgumentError, match="the mixture is the posterior itself"):
        train(model, config=config)


@pytest.mark.slow
def test_volatility_is_a_good_proposal_for_most_data_sets():
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    posterior = train(model, config={**SHORT, "max_iterations": 1000})
    config = EvaluationConfig(num_draws=1000, num_data_sets=50, num_particles=500)
    *_, last = evaluate(model, posterior.flow, config)
    assert last.result.flow.ess_median > 0.7

"""Tests of flows of fewer latents, from training to weighted particles."""

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.front.train import train
from flows.inference.weights import WeightTotals
from flows.integrated.flow import CompletedFlow
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model
from flows.storage.artifact import Artifact
from tests.flows.integrated.programs import CIRCUIT
from tests.flows.quick import AUTOREGRESSIVE

SHORT = AUTOREGRESSIVE | {
    "flow": {"hidden": 16, "layers": 2},
    "max_iterations": 150,
    "warm_start_fraction": 0.9,
    "final_batch_size": 32,
    "warm_start_batch_size": 128,
    "num_certifications": 1,
    "normalisation_draws": 4000,
}


@pytest.fixture(scope="module")
def posterior():
    return train(Model.from_program(CIRCUIT), config=SHORT)


def renumbered(model):
    """Return a model whose document has the same nodes back to front."""
    constants, graph, result = model.graph.document.to_json()
    number = {name: f"{name[:-1]}{20 - int(name[-1])}" for name in graph["V"]}

    def named(value):
        if isinstance(value, list | tuple):
            return [named(each) for each in value]
        if isinstance(value, dict):
            return {number.get(k, k): named(v) for k, v in value.items()}
        return number.get(value, value) if isinstance(value, str) else value

    turned = {**named(graph), "V": named(graph["V"])[::-1]}
    document = document_from_json([constants, turned, named(result)], "turned")
    return Model.from_graph(Graph.from_document(document)), number


def test_a_flow_of_fewer_latents_gives_particles_of_all_of_them(posterior, tmp_path):
    model = posterior.model
    posterior.save(tmp_path / "artifact")
    artifact = Artifact.load(tmp_path / "artifact")
    assert artifact.manifest.integrated == ("sample1", "sample4", "sample2")
    assert [v.name for v in artifact.layout.latents] == [
        "sample0",
        "sample3",
        "sample5",
    ]
    flow = artifact.flow_for(model.graph, model.layout)
    assert isinstance(flow, CompletedFlow)
    particles = posterior.sample(num_particles=1000, seed=0)
    assert particles.latents.shape == (1000, 6)
    totals = WeightTotals.from_log_weights(particles.log_weights)
    assert totals.ess_fraction > 0.3
    z0, z1 = particles.latents[:, 0], particles.latents[:, 1]
    weights = particles.normalized_weights
    assert abs(float((weights * z0 * z1).sum()) + 9.7) < 0.15


def test_it_is_evaluated_and_of_every_numbering_of_its_model(posterior):
    model = posterior.model
    other, number = renumbered(model)
    flow = posterior.artifact.flow_for(other.graph, other.layout)
    draws = model.sample(20, generator=torch.Generator().manual_seed(1))
    latents, observed = _moved(draws, model.layout, other.layout, number)
    none = latents[:, :0]
    before = posterior.flow.log_prob(draws.latents, none, draws.observed)
    found = flow.log_prob(latents, none, observed)
    # The first points of a grid are from draws, which depend on the numbering.
    torch.testing.assert_close(found, before, atol=0.02, rtol=0)
    config = EvaluationConfig(num_draws=300, num_data_sets=10, num_particles=50)
    *_, last = evaluate(model, posterior.flow, config)
    assert len(last.result.latents) == 6
    assert last.result.j.symmetric.num_non_finite == 0
    assert last.result.flow.ess_median > 0.3


@pytest.mark.slow
def test_it_is_bent_to_one_data_set_and_stays_one_of_fewer_latents(posterior):
    bent = posterior.refine({"observe6": -9.0}, budget="20s", engine="auto")
    assert bent.artifact.manifest.integrated == posterior.artifact.manifest.integrated
    assert isinstance(bent.flow, CompletedFlow)
    assert bent.metrics["begun_from"] == "the trained flow"
    assert bent.metrics["ess_fraction"] > 0.5


def _moved(draws, own, other, number):
    latents = torch.empty_like(draws.latents)
    observed = torch.empty_like(draws.observed)
    for rows, moved, variables in (
        (draws.latents, latents, own.latents),
        (draws.observed, observed, own.observed),
    ):
        for variable in variables:
            place = other.variable(number[variable.name]).start
            moved[:, place] = rows[:, variable.start]
    return latents, observed

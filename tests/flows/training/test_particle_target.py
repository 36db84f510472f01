"""Tests of flows.training.particle_target."""

import torch
from scipy import stats

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.model.model import Model
from flows.training.particle_target import ParticleTarget

from ..conftest import pair_document


def target(weights):
    graph = Graph.from_document(document_from_json(pair_document(), "pair.json"))
    model = Model.from_graph(graph)
    rows = torch.arange(2.0 * len(weights), dtype=torch.float64).reshape(-1, 2)
    weights = torch.tensor(weights, dtype=torch.float64)
    return ParticleTarget(model, rows, weights, model.observation())


def test_draws_are_particles_by_their_weights_with_the_data():
    found = target([0.0, 1.0, 3.0])
    draws = found.sample(4000, generator=torch.Generator().manual_seed(0))
    assert set(draws.latents[:, 0].tolist()) == {2.0, 4.0}
    share = float((draws.latents[:, 0] == 4.0).double().mean())
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5
    assert draws.observed.shape == (4000, 2)
    assert torch.equal(draws.observed[7], found.observed)


def test_the_density_is_the_models_in_double_precision_whatever_the_flow_has():
    found = target([1.0])
    free = torch.tensor([[0.3, 0.8]], dtype=torch.float32)
    got = found.log_joint_free(free, torch.zeros(1, 2))
    a, b = free.double()[0].tolist()
    expected = (
        stats.norm.logpdf(a, 1, 2)
        + stats.norm.logpdf(b, 2 * a, 1)
        + stats.norm.logpdf(0.5, a, 1)
        + stats.norm.logpdf(1.5, b, 0.5)
    )
    assert got.dtype == torch.float64
    assert abs(float(got) - expected) < 1e-12

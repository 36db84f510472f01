"""A small posterior, trained once for all tests of the front."""

import pytest

import flows
from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph

from ..conftest import pair_document

QUICK = {
    "budget_seconds": 0.0,
    "max_iterations": 60,
    "report_every": 20,
    "num_certifications": 2,
    "certify_draws": 200,
    "normalisation_draws": 2000,
    "converged_nats": 0.0,
    "flow": {"layers": 2, "hidden": 4},
}


def model_of(document):
    graph = Graph.from_document(document_from_json(document, "pair.json"))
    return flows.Model.from_graph(graph)


@pytest.fixture(scope="package")
def model():
    return model_of(pair_document())


@pytest.fixture(scope="package")
def posterior(model):
    return flows.train(model, config=QUICK, engine="torch")

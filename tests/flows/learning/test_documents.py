"""Tests of flows.learning.documents."""

from daphne_bridge.graph.document import GraphDocument
from daphne_bridge.graph.graph import Graph
from flows.learning.documents import observing, only, with_constants

DOCUMENT = GraphDocument.from_triple(
    [
        {"twice": ["fn", ["x"], ["*", "x", "sample0"]]},
        {
            "V": ["sample0", "sample1", "observe2"],
            "A": {"sample0": ["sample1"], "sample1": ["observe2"]},
            "P": {
                "sample0": ["sample*", ["normal", 0, 1]],
                "sample1": ["sample*", ["normal", "sample0", 1]],
                "observe2": ["observe*", ["normal", ["twice", "sample1"], 1], 0.5],
            },
            "Y": {"observe2": 0.5},
        },
        ["vector", "sample0", "sample1"],
    ],
    "document",
)


def test_a_latent_becomes_an_observed_node():
    graph = Graph.from_document(observing(DOCUMENT, {"sample0": 0.25}))
    assert graph.observed == ("sample0", "observe2")
    assert graph.node("sample0").observation == 0.25
    assert graph.parents("sample1") == ("sample0",)


def test_latents_stand_alone():
    graph = Graph.from_document(only(DOCUMENT, {"sample0"}))
    assert [node.name for node in graph.nodes] == ["sample0"]


def test_a_constant_stands_for_a_latent_everywhere_it_is_read():
    made = with_constants(DOCUMENT, {"sample0": 0.25})
    graph = Graph.from_document(made)
    assert not graph.warnings
    assert graph.latents == ("sample1",)
    assert made.link_functions["sample1"] == ["sample*", ["normal", 0.25, 1]]
    assert made.functions["twice"] == ["fn", ["x"], ["*", "x", 0.25]]
    assert made.result == ["vector", 0.25, "sample1"]


def test_a_vector_is_written_as_a_call():
    made = with_constants(DOCUMENT, {"sample0": [[1.0, 2.0]]})
    assert made.result[1] == ["vector", ["vector", 1.0, 2.0]]

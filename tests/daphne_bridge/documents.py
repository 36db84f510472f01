"""This file makes small documents for tests."""

from typing import Any

from daphne_bridge.graph.document import GraphDocument, document_from_json
from daphne_bridge.graph.graph import Graph


def make_document(
    links: dict[str, Any],
    data: dict[str, Any] | None = None,
    functions: dict[str, Any] | None = None,
    arcs: dict[str, list[str]] | None = None,
    result: Any = None,
) -> GraphDocument:
    """Return a document of the given link functions and data."""
    graph = {"V": list(links), "A": arcs or {}, "P": links, "Y": data or {}}
    return document_from_json([functions or {}, graph, result])


def make_graph(links: dict[str, Any], data: dict[str, Any] | None = None) -> Graph:
    """Return the graph of the given link functions and data."""
    return Graph.from_document(make_document(links, data))


CIRCUIT = {
    "sample2": ["sample*", ["laplace", 5, 1]],
    "sample3": ["sample*", ["laplace", -2, 1]],
    "sample4": [
        "sample*",
        ["normal", ["tanh", ["-", ["+", "sample2", "sample3"], 2.8]], 0.1],
    ],
    "sample5": ["sample*", ["normal", ["*", "sample2", "sample3"], 0.1]],
    "sample6": ["sample*", ["normal", 7, 2]],
    "sample7": ["sample*", ["normal", ["tanh", ["+", "sample5", "sample6"]], 0.1]],
    "observe8": ["observe*", ["normal", "sample5", 0.1], -9.7],
    "observe9": ["observe*", ["normal", "sample7", 0.1], 0.85],
}
CIRCUIT_DATA = {"observe8": -9.7, "observe9": 0.85}

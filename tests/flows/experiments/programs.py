"""This file reads the repository's programs for the tests of the experiments."""

from pathlib import Path

from daphne_bridge.graph.graph import Graph
from tests.flows.model.programs import graph_of

__all__ = ["PROGRAMS", "program"]

PROGRAMS = Path(__file__).parents[3] / "clj-programs"


def program(name: str) -> Graph:
    """Return the graph of a program of the gallery."""
    return graph_of((PROGRAMS / f"{name}.daphne").read_text())

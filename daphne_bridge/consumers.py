"""This file asks the packages that consume graphs whether they take one.

A package names a function under the entry points of `CHECKS`. It is given a checked
graph, raises a `BridgeError` for what it refuses, and returns labels of nodes by what
it makes of them: `{"summed_out": ["k"], "sampled": []}`.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points

from .graph.graph import Graph

__all__ = ["CHECKS", "treatment"]

CHECKS = "daphne_bridge.checks"
"""Group of entry points."""


def treatment(graph: Graph) -> dict[str, Sequence[str]]:
    """Return labels of nodes by what the installed packages make of them.

    Args:
        graph: A graph without errors.

    Raises:
        BridgeError: If a package refuses the graph.
    """
    found: dict[str, Sequence[str]] = {}
    for entry in entry_points(group=CHECKS):
        found |= entry.load()(graph)
    return found

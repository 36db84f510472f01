"""This file reads what a MODEL argument names: a program or a graph document."""

from dataclasses import dataclass
from pathlib import Path

from daphne_bridge.command_line import warn
from daphne_bridge.graph.document import GraphDocument, NodeNames
from daphne_bridge.graph.graph import Graph
from daphne_bridge.reading import read_model

__all__ = ["NamedModel", "load_any"]


@dataclass(frozen=True, slots=True, eq=False)
class NamedModel:
    """A checked graph, with the document and the names that it was made of."""

    title: str
    graph: Graph
    document: GraphDocument
    names: NodeNames


def load_any(path: Path, data: Path | None = None) -> NamedModel:
    """Return the checked graph of a program or document; print warnings.

    Args:
        path: The file; `-` is standard input.
        data: A table or JSON object that a program uses.

    Raises:
        GraphError: With every problem of the document.
    """
    found = read_model(path, data)
    graph = found.report.usable_graph()
    warn(found.report.warnings)
    title = "standard input" if str(path) == "-" else path.stem
    return NamedModel(title, graph, found.document, found.names)

"""This file reads what a MODEL argument names: a program or a graph document."""

from dataclasses import dataclass
from pathlib import Path

from daphne_bridge.command_line import warn
from daphne_bridge.compiler import compile_program, parse_data
from daphne_bridge.errors import DocumentError
from daphne_bridge.graph.checking import check_document
from daphne_bridge.graph.document import (
    GraphDocument,
    NodeNames,
    load_names,
    parse_document,
    read_text,
)
from daphne_bridge.graph.graph import Graph

from ..errors import FlowsError, Problem

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
    source = "<standard input>" if str(path) == "-" else str(path)
    text = read_text(path, "a program or a graph document")
    warnings: tuple[Problem, ...] = ()
    if _is_document(text, path):
        if data is not None:
            raise FlowsError(
                Problem("--data", "stands beside a document", "a program that uses it")
            )
        document = parse_document(text, source)
        names, warnings = load_names(document, path)
    else:
        bound = None
        if data is not None:
            bound = parse_data(read_text(data, "data"), str(data))
        compiled = compile_program(text, source, bound)
        document = GraphDocument.from_triple(compiled.document, source)
        names = NodeNames(compiled.labels, compiled.positions)
    report = check_document(document, names)
    graph = report.usable_graph()
    # What a freshly compiled document lacks beside its link functions misleads nobody.
    warn((*warnings, *(report.warnings if _is_document(text, path) else ())))
    title = "standard input" if str(path) == "-" else path.stem
    return NamedModel(title, graph, document, names)


def _is_document(text: str, path: Path) -> bool:
    """Return whether a text is a graph document rather than a program."""
    if path.suffix == ".json":
        return True
    if not text.lstrip().startswith("["):
        return False
    try:
        parse_document(text)
    except DocumentError:
        return False
    return True

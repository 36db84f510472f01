"""This file reads a model, whichever a file holds: a program or a graph document."""

from dataclasses import dataclass, replace
from pathlib import Path

from .compiler import compile_program, parse_data
from .errors import DocumentError
from .graph.checking import CheckReport, check_document
from .graph.deep_json import is_object_text
from .graph.document import (
    GraphDocument,
    NodeNames,
    load_names,
    parse_document,
    read_text,
)
from .graph.graph import Graph

__all__ = ["ReadModel", "read_model"]


@dataclass(frozen=True, slots=True, eq=False)
class ReadModel:
    """A document with the program's names, and what is wrong or odd in it."""

    document: GraphDocument
    names: NodeNames
    report: CheckReport

    @property
    def graph(self) -> Graph:
        """The graph; raises a `GraphError` with every problem if there is one."""
        return self.report.usable_graph()


def read_model(
    path: Path, data: Path | None = None, *, text: str | None = None
) -> ReadModel:
    """Return what a file holds, a program compiled.

    Args:
        path: The file; `-` is standard input. The names of a document are read from
            the file beside it.
        data: A table or JSON object that a program uses.
        text: What the file holds, if that is read already.

    Raises:
        BridgeError: If the file cannot be read, or is neither program nor document.
    """
    source = "<standard input>" if str(path) == "-" else str(path)
    if text is None:
        text = read_text(path, "a program or a graph document")
    document = _document(text, path, source)
    if document is not None:
        if data is not None:
            raise DocumentError.at(
                "--data", "stands beside a document", "a program that uses it"
            )
        names, odd = load_names(document, path)
        report = check_document(document, names)
        report = replace(report, warnings=(*odd, *report.warnings))
        return ReadModel(document, names, report)
    bound = None
    if data is not None:
        bound = parse_data(read_text(data, "data"), str(data))
    compiled = compile_program(text, source, bound)
    document = GraphDocument.from_triple(compiled.document, source)
    names = NodeNames(compiled.labels, compiled.positions)
    # What a freshly compiled document lacks beside its link functions misleads nobody.
    report = replace(check_document(document, names), warnings=())
    return ReadModel(document, names, report)


def _document(text: str, path: Path, source: str) -> GraphDocument | None:
    """Return the graph document that a text is, None if it is a program."""
    if path.suffix.lower() == ".json":
        return parse_document(text, source)
    if not text.lstrip().startswith("["):
        return None
    try:
        return parse_document(text, source)
    except DocumentError:
        if is_object_text(text):
            raise
        return None

"""This file reads and writes Daphne's JSON triple, without loss.

A document is `[functions, {"V": ..., "A": ..., "P": ..., "Y": ...}, return]`. Terms
stay raw JSON here; `Graph.from_document` parses them. Beside a document the embedded
compiler leaves `NAME.names.json`, which says what the program itself calls each node
and where it stands; a document without one is complete, its nodes then have only the
document's names.
"""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DocumentError, Problem, shortened
from ..files import new_file
from .deep_json import JsonError, dumps, loads

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

__all__ = [
    "GraphDocument",
    "NodeNames",
    "document_from_json",
    "dump_document",
    "dump_names",
    "format_document",
    "load_document",
    "load_names",
    "names_path",
    "parse_document",
    "parse_json",
    "read_text",
    "schema_validator",
    "write_text",
]

_NAMES_FORMAT = "daphne-bridge names"


@dataclass(frozen=True, slots=True)
class GraphDocument:
    """Daphne's graph document as data.

    Attributes:
        functions: User functions by name, `["fn", [parameters], body]`.
        vertices: Node names (`V`), in the document's order.
        arcs: Children by node (`A`), as written; not to be relied on.
        link_functions: Link function by node (`P`), raw JSON terms.
        observations: Observed values by node (`Y`), raw JSON.
        result: What the program returns, a raw JSON term.
        source: File name for messages; does not enter comparison.
    """

    functions: Mapping[str, Any]
    vertices: tuple[str, ...]
    arcs: Mapping[str, Any]
    link_functions: Mapping[str, Any]
    observations: Mapping[str, Any]
    result: Any
    source: str = field(default="<document>", compare=False)

    @classmethod
    def from_triple(cls, triple: Sequence[Any], source: str) -> "GraphDocument":
        """Return the document of a JSON triple that is known to be well formed."""
        functions, graph, result = triple
        return cls(
            functions=functions,
            vertices=tuple(graph["V"]),
            arcs=graph["A"],
            link_functions=graph["P"],
            observations=graph["Y"],
            result=result,
            source=source,
        )

    def to_json(self) -> list[Any]:
        """Return the JSON triple."""
        graph = {
            "V": list(self.vertices),
            "A": dict(self.arcs),
            "P": dict(self.link_functions),
            "Y": dict(self.observations),
        }
        return [dict(self.functions), graph, self.result]

    def digest(self) -> str:
        """Return the SHA-256 of the document's content."""
        text = dumps(self.to_json())
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What the program calls its nodes, and where they stand in its text.

    Attributes:
        labels: The program's own name by node name.
        positions: `file:line:column` by node name.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)


def schema_validator(room: str, name: str) -> "Draft202012Validator":
    """Return the validator of the JSON Schema `name` that lies in the package `room`.

    The library is loaded when first needed: it takes as long as a small compilation.
    """
    jsonschema = import_module("jsonschema")
    text = files(room).joinpath(name).read_text("utf-8")
    validator: Draft202012Validator = jsonschema.Draft202012Validator(loads(text))
    return validator


@cache
def _validator() -> "Draft202012Validator":
    return schema_validator(__package__, "graph.schema.json")


def parse_document(text: str, source: str = "<document>") -> GraphDocument:
    """Return the document written in `text`.

    Raises:
        DocumentError: If it is not JSON, or not of the shape of a graph document; all
            violations of the schema are reported, each with its JSON path.
    """
    return document_from_json(parse_json(text, source), source)


def parse_json(text: str, source: str) -> Any:
    """Return the JSON value written in `text`.

    Args:
        text: What a file holds.
        source: Its name for messages.

    Raises:
        DocumentError: If it is not JSON, with line and column; a Daphne program is
            recognized, and the message says what makes a document of it.
    """
    try:
        return loads(text)
    except JsonError as error:
        if text.lstrip().startswith(("(", ";")):
            problem = Problem(
                source,
                "this looks like a Daphne program",
                "a document; `daphne-bridge compile PROGRAM -o graph.json` writes one",
            )
        else:
            where = f"{source}:{error.line}:{error.column}"
            problem = Problem(where, f"not JSON: {error}", "a JSON document")
        raise DocumentError(problem) from None


def document_from_json(data: Any, source: str = "<document>") -> GraphDocument:
    """Return the document given as a JSON value.

    Raises:
        DocumentError: If the value does not have the shape of a graph document.
    """
    try:
        problems = [
            _problem(violation, data, source)
            for violation in _validator().iter_errors(data)
        ]
    except RecursionError:
        problems = [Problem(source, "nested too deeply in the wrong place")]
    if problems:
        raise DocumentError(*problems[:20])
    return GraphDocument.from_triple(data, source)


def _problem(violation: "ValidationError", data: Any, source: str) -> Problem:
    """Return what a violation of the schema says."""
    if not violation.path:
        what, expected = "this is not a graph document", _TRIPLE
        return Problem(f"{source}: $", what, expected, _kind(data))
    where = f"{source}: {violation.json_path}"
    if violation.validator == "type":
        expected = f"the type {violation.validator_value}"
        got = shortened(repr(violation.instance))
        return Problem(where, "a value of the wrong type", expected, got)
    return Problem(where, shortened(violation.message, 160))


_TRIPLE = '[functions, {"V", "A", "P", "Y"}, return]'


def _kind(data: Any) -> str:
    if isinstance(data, dict) and data:
        return f"an object with the keys {shortened(', '.join(map(repr, data)))}"
    if isinstance(data, list):
        return f"an array of {len(data)}"
    if isinstance(data, dict):
        return "an empty object"
    return f"a {type(data).__name__}"


def read_text(path: Path, what: str) -> str:
    """Return the text of a file.

    Args:
        path: The file; `-` is standard input.
        what: What it should be, for the message ("a program").

    Raises:
        DocumentError: If there is no such file, or it is not UTF-8 text.
    """
    if str(path) == "-":
        try:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DocumentError.at(
                "-", "not text", f"{what} in UTF-8", f"{error.reason}"
            ) from None
    try:
        # Editors may begin a file with a byte-order mark.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DocumentError.at(str(path), "no such file", what) from None
    except IsADirectoryError:
        raise DocumentError.at(
            str(path), "this is a directory", f"{what}, a file"
        ) from None
    except UnicodeDecodeError as error:
        raise DocumentError.at(
            str(path), "not text", f"{what} in UTF-8", f"{error.reason}"
        ) from None
    except OSError as error:
        raise DocumentError.at(
            str(path), f"cannot be read: {error.strerror}", what
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        DocumentError: If the folder does not exist or cannot be written.
    """
    with new_file(path, DocumentError) as file:
        file.write(text.encode())


def load_document(path: str | os.PathLike[str]) -> GraphDocument:
    """Return the document in a file.

    Raises:
        DocumentError: If the file cannot be read or is no graph document.
    """
    return parse_document(read_text(Path(path), "a graph document"), str(path))


def dump_document(document: GraphDocument, path: str | os.PathLike[str]) -> None:
    """Write a document to a file, whole or not at all."""
    write_text(Path(path), format_document(document))


def format_document(document: GraphDocument) -> str:
    """Return a document as JSON text with one line per node and function."""

    def lines(entries: Mapping[str, Any]) -> str:
        members = (f"{dumps(key)}: {dumps(entries[key])}" for key in entries)
        inner = ",\n    ".join(members)
        return f"{{\n    {inner}}}" if inner else "{}"

    return (
        f"[{lines(document.functions)},\n"
        f'  {{"V": {dumps(list(document.vertices))},\n'
        f'   "A": {lines(document.arcs)},\n'
        f'   "P": {lines(document.link_functions)},\n'
        f'   "Y": {lines(document.observations)}}},\n'
        f"  {dumps(document.result)}]\n"
    )


def names_path(path: str | os.PathLike[str]) -> Path:
    """Return where the names that belong to the document at `path` stand."""
    place = Path(path)
    stem = place.name.removesuffix(".json")
    return place.with_name(f"{stem}.names.json")


def dump_names(
    names: NodeNames, document: GraphDocument, path: str | os.PathLike[str]
) -> None:
    """Write the names beside the document at `path`."""
    data = {
        "format": _NAMES_FORMAT,
        "version": 1,
        "document": document.digest(),
        "labels": dict(names.labels),
        "positions": dict(names.positions),
    }
    write_text(names_path(path), dumps(data, indent=1) + "\n")


def load_names(
    document: GraphDocument, path: str | os.PathLike[str]
) -> tuple[NodeNames, tuple[Problem, ...]]:
    """Return the names beside the document at `path`, with warnings.

    A missing file is no problem. A file of another document is not used, and a warning
    says so.
    """
    place = names_path(path)
    if not place.exists():
        return NodeNames(), ()

    def unusable(what: str) -> tuple[NodeNames, tuple[Problem, ...]]:
        warning = Problem(str(place), f"{what}; the program's own names are not shown")
        return NodeNames(), (warning,)

    try:
        data = loads(read_text(place, "the names of a document"))
    except (JsonError, DocumentError):
        return unusable("this names file cannot be read")
    if not isinstance(data, dict) or data.get("format") != _NAMES_FORMAT:
        return unusable("this is not a names file")
    if data.get("document") != document.digest():
        return unusable("this names file belongs to another document")
    parts: list[dict[str, str]] = []
    for part in (data.get("labels"), data.get("positions")):
        if not isinstance(part, dict) or not all(
            isinstance(name, str) for name in part.values()
        ):
            return unusable("this names file is damaged")
        parts.append(part)
    return NodeNames(*parts), ()

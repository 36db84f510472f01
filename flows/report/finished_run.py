"""This file reads the folder of a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daphne_bridge.graph.graph import Graph

from ..errors import FlowsError
from ..model.model import Model
from ..storage.folders import read_file
from ..storage.json_values import parsed

__all__ = ["DAMAGE", "FinishedRun", "damaged", "run_files"]

DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What figures raise that are of another form than the command wrote."""

_LIMIT = 2**30


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run.

    Attributes:
        path: The folder.
        graph: Of its document.
        model: Of the graph.
        program: Text of the program, if it is at hand.
    """

    path: Path
    graph: Graph
    model: Model
    program: str | None

    def json(self, name: str) -> Any:
        """Return the JSON value of a file, None if it is not there.

        Raises:
            FlowsError: If it is no JSON.
        """
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return parsed(read_file(path, "a JSON file", limit=_LIMIT))
        except ValueError:
            raise damaged(path) from None

    def json_lines(self, name: str) -> list[Any]:
        """Return the JSON values of a log that may still be written, [] without it."""
        path = self.path / name
        values: list[Any] = []
        if not path.is_file():
            return values
        for line in read_file(path, "a training log", limit=_LIMIT).splitlines():
            try:
                values.append(parsed(line))
            except ValueError:
                # The last line of a training that goes on may be half there.
                continue
        return values


def damaged(path: Path) -> FlowsError:
    """Return the error for a file that its command did not write so."""
    return FlowsError.at(str(path), "damaged", "what the command wrote")


def run_files(folder: Path) -> list[Path]:
    """Return the files of a run, sorted, without its pages."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".html"
    ]

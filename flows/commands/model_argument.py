"""This file reads what a MODEL argument names: a program or a graph document."""

from pathlib import Path

from daphne_bridge.command_line import warn
from daphne_bridge.reading import ReadModel, read_model

__all__ = ["load_any"]


def load_any(path: Path, data: Path | None = None) -> ReadModel:
    """Return what a program or document holds, if it is right; print warnings.

    Args:
        path: The file; `-` is standard input.
        data: A table or JSON object that a program uses.

    Raises:
        GraphError: With every problem of the document.
    """
    found = read_model(path, data)
    found.report.usable_graph()
    warn(found.report.warnings)
    return found

"""This file makes the figures that plots are drawn into, and their SVG text.

It needs matplotlib, an extra.
"""

import io
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from daphne_bridge.errors import printable

from ..optional import require

__all__ = [
    "ACCENT",
    "COLOUR",
    "check_plots",
    "draw_histogram",
    "figure",
    "grid",
    "shown",
    "svg",
]

COLOUR = "#2f6f9f"
ACCENT = "#c2571a"

_MOST_PANELS = 24


def check_plots() -> None:
    """Raise unless matplotlib is installed.

    Raises:
        FlowsError: If it is not.
    """
    require("matplotlib", extra="plots", where="plots")


def figure(width: float, height: float) -> Any:
    """Return an empty figure, its size in inches."""
    made = import_module("matplotlib.figure").Figure((width, height))
    made.set_layout_engine("constrained")
    return made


def grid(count: int, columns: int) -> tuple[Any, list[Any]]:
    """Return a figure with panels, so many side by side, and the panels.

    There are `count` of them, 24 at most.
    """
    count = min(count, _MOST_PANELS)
    columns = min(columns, max(count, 1))
    rows = max(1, -(-count // columns))
    made = figure(2.6 * columns, 1.9 * rows)
    axes = made.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return made, axes[:count]


def draw_histogram(axis: Any, values: Sequence[float], *, bins: int) -> None:
    """Draw a histogram; where all values are equal to rounding it has a width too."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    least = 1e-6 * max(1.0, abs(low), abs(high))
    if high - low < least:
        low, high = low - least, high + least
    axis.hist(values, bins=bins, range=(low, high), color=COLOUR)


def shown(name: str) -> str:
    """Return a name as it stands: no formula between dollars, nothing unprintable."""
    return printable(name).replace("$", r"\$")


def svg(made: Any) -> str:
    """Return a figure as text; equal figures give equal text."""
    matplotlib = import_module("matplotlib")
    stream = io.StringIO()
    # No date, and a fixed salt for the ids.
    with matplotlib.rc_context({"svg.hashsalt": "figure", "svg.fonttype": "none"}):
        made.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]

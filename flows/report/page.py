"""This file lays a finished run out as one HTML page that needs no network.

All pictures are inside the page. What a run does not hold is named with the command
that makes it. The words and the layout stand in `page.html.jinja`; every text that
is put into it is escaped, control characters as well as markup.
"""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from daphne_bridge.errors import printable

from .answer_section import answer_section
from .finished_run import DAMAGE, FinishedRun, damaged
from .posterior_section import posterior_section
from .sections import (
    diagnosis_section,
    files_section,
    model_section,
    quality_section,
    training_section,
)

__all__ = ["report_page"]

_SECTIONS: dict[str, tuple[Callable[[FinishedRun], Any], str]] = {
    "training": (training_section, "artifact.training/log.jsonl"),
    "answer": (answer_section, "inference.json"),
    "posterior": (posterior_section, "particles/summary.json"),
    "quality": (quality_section, "evaluation.json"),
    "diagnosis": (diagnosis_section, "diagnosis/diagnosis.json"),
    "files": (files_section, "artifact/manifest.json"),
}


def report_page(run: FinishedRun) -> str:
    """Return the page.

    Raises:
        FlowsError: If a file of the run is damaged.
    """
    sections = {name: _values(run, *of) for name, of in _SECTIONS.items()}
    return _template().render(
        title=run.path.resolve().name,
        run=str(run.path),
        model=model_section(run),
        **sections,
    )


def _values(run: FinishedRun, make: Callable[[FinishedRun], Any], name: str) -> Any:
    """Return the section that `make` makes of the file `name`."""
    try:
        return make(run)
    except DAMAGE:
        raise damaged(run.path / name) from None


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("flows.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters["lines"] = _lines
    return environment.get_template("page.html.jinja")


def _shown(value: Any) -> Any:
    """Return text of one line for the page, control characters as escapes."""
    return value if isinstance(value, Markup) else printable(str(value))


def _lines(text: str) -> Markup:
    """Return text of many lines for the page."""
    return Markup("\n").join(printable(t.expandtabs()) for t in text.splitlines())

"""This file reads what a user names on the command line, for every command.

Graphs, models, configurations, observations and durations: each is checked whole, and
what is wrong is said in one sentence per problem.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from daphne_bridge.command_line import warn
from daphne_bridge.errors import GraphError
from daphne_bridge.graph.checking import check_document
from daphne_bridge.graph.deep_json import JsonError, loads
from daphne_bridge.graph.document import load_document, load_names
from daphne_bridge.graph.graph import Graph

from ..cnf.engines import ENGINES, prepare_kernel
from ..errors import ArtifactError, FlowsError, Problem
from ..front.material import check_trainable
from ..front.posterior import Posterior, load
from ..inference.importance import MOST_SEED
from ..model.model import Model
from ..model.observation import Given

__all__ = [
    "COUNT",
    "FILE_LIMIT",
    "MOST_HELD",
    "OPEN_SHARE",
    "PATH",
    "SEED",
    "UNTRUSTED",
    "Real",
    "Whole",
    "check_run",
    "engine_option",
    "json_option",
    "load_graph",
    "load_model",
    "load_posterior",
    "observations",
    "observe_option",
    "print_table",
    "progress_bar",
    "say_compiling",
]

FILE_LIMIT = 2**30
"""Largest text file that is read."""

PATH = click.Path(path_type=Path)
"""Type of an argument that names a file or folder."""


UNTRUSTED = 3
"""Exit code of a command whose answer cannot be trusted."""


class Whole(click.IntRange):
    """A whole number in a range, in digits only."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number; Python's `1_000` is refused."""
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value) is None:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


class Real(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number; nan, infinity and Python's `1_000` are refused."""
        number = super().convert(value, param, ctx)
        if "_" in str(value) or not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SEED = Whole(0, MOST_SEED)
"""Type of a seed, as the random generators take it."""

COUNT = Whole(1, 1_000_000_000)
"""Type of a number of draws."""

MOST_HELD = 1_000_000
"""Most draws of a kind whose results are all held in memory."""

OPEN_SHARE = Real(0, 1, min_open=True, max_open=True)
"""Type of a share that is neither nothing nor all."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable results."
)


engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What solves the flow in training.",
)


observe_option = click.option(
    "--observe",
    multiple=True,
    metavar="NAME=VALUE",
    help="Other data than the document's; may be repeated.",
)


def check_run(folder: Path) -> None:
    """Raise an error if there is no run in a place."""
    if not folder.is_dir():
        raise FlowsError(
            Problem(
                str(folder), "this run does not exist", "the folder of a finished run"
            )
        )


def load_graph(path: Path) -> Graph:
    """Return the checked graph of a document; print warnings.

    Raises:
        GraphError: With every problem.
    """
    document = load_document(path)
    names, warnings = load_names(document, path)
    report = check_document(document, names)
    if report.problems or report.graph is None:
        raise GraphError(*report.problems)
    warn((*warnings, *report.warnings))
    return report.graph


def load_model(graph: Graph) -> Model:
    """Return the model of a graph that a flow can be used for.

    Raises:
        FlowsError: If nothing is observed, or a latent is not continuous.
    """
    model = Model.from_graph(graph)
    check_trainable(model)
    return model


def load_posterior(
    artifact: Path, model: Model, *, weighted: bool = True, amortised: bool = False
) -> Posterior:
    """Return a posterior with its kernel compiled, and say so if it was not.

    Args:
        artifact: The folder.
        model: The target.
        weighted: Whether its draws are to be weighted.
        amortised: Whether it has to be a flow of every data set.

    Raises:
        ArtifactError: If the artifact is damaged, of another model, or of one data set
            where it has to be of every one.
    """
    loaded = load(artifact, model, weighted=weighted)
    if amortised and loaded.refined_for is not None:
        raise ArtifactError(
            Problem(
                str(artifact),
                "this flow is of one data set, so it says nothing of others",
                "an artifact of `daphne-flows train` without `--one-data-set`",
            )
        )
    prepare_kernel(say_compiling)
    return loaded


def observations(entries: tuple[str, ...]) -> Given:
    """Return values by name of options `NAME=VALUE`."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for entry in entries:
        name, separator, text = entry.partition("=")
        where = f"--observe {entry}"
        if not separator or not name:
            raise FlowsError(Problem(where, "not an observation", "NAME=VALUE"))
        if name in values:
            raise FlowsError(Problem(where, f"{name} is observed twice"))
        try:
            value = loads(text)
        except JsonError:
            try:
                value = float(text)
            except ValueError:
                value = text
        if isinstance(value, float) and not math.isfinite(value):
            raise FlowsError(
                Problem(where, "the observation is not finite", "a finite number", text)
            )
        values[name] = _as_data(value)
        places[name] = where
    return Given(values, places)


def _as_data(value: Any) -> Any:
    return tuple(map(_as_data, value)) if isinstance(value, list) else value


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Yield a progress bar on standard error; its tasks have a field `note`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console) as progress:
        yield progress


def print_table(renderable: Any) -> None:
    """Print a table on standard output."""
    Console(soft_wrap=False).print(renderable, highlight=False)


def say_compiling() -> None:
    """Tell that the kernel is being compiled."""
    click.echo("compiling the kernel, once on this machine", err=True)

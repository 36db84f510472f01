"""This file reads what a user names on the command line: graphs, flows and data.

Each is checked whole, and what is wrong is said in one sentence per problem.
"""

from pathlib import Path
from typing import Any

from daphne_bridge.errors import shortened
from daphne_bridge.graph.deep_json import JsonError, loads

from ..cnf.engines import prepare_kernel
from ..errors import FlowsError
from ..front.material import check_trainable
from ..front.posterior import Posterior, load
from ..model.model import Model
from ..model.observation import Given
from ..model.shapes import ObservedRow
from ..storage.observations import as_data
from .model_argument import load_any
from .output import say_compiling

__all__ = [
    "FILE_LIMIT",
    "check_run",
    "load_model",
    "load_posterior",
    "observations",
    "observed_row",
]

FILE_LIMIT = 2**30
"""Largest text file that is read."""


def check_run(folder: Path) -> None:
    """Raise an error if there is no run in a place."""
    if not folder.is_dir():
        raise FlowsError.at(
            str(folder), "this run does not exist", "the folder of a finished run"
        )


def load_model(path: Path, data: Path | None = None) -> Model:
    """Return the model of a program or document that a flow can be used for.

    Warnings are printed.

    Args:
        path: The file; `-` is standard input.
        data: A table or JSON object that a program uses.

    Raises:
        FlowsError: If nothing is observed, or there are no latents.
        GraphError: With every problem of the document.
    """
    model = Model.from_graph(load_any(path, data).graph)
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
        ArtifactError: If the artifact is damaged, or of another model.
        ArgumentError: If it is of one data set where it has to be of every one.
    """
    loaded = load(artifact, model, weighted=weighted)
    if amortised:
        loaded.check_amortised(str(artifact))
    prepare_kernel(say_compiling)
    return loaded


def observations(entries: tuple[str, ...]) -> Given:
    """Return values by name of options `NAME=VALUE`."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for entry in entries:
        name, separator, text = entry.partition("=")
        where = f"--observe {shortened(entry)}"
        if not separator or not name:
            raise FlowsError.at(where, "not an observation", "NAME=VALUE")
        if name in values:
            raise FlowsError.at(where, f"{shortened(name)} is observed twice")
        try:
            value = loads(text)
        except JsonError:
            try:
                value = float(text)
            except ValueError:
                value = text
        values[name] = as_data(value, where)
        places[name] = where
    return Given(values, places)


def observed_row(model: Model, entries: tuple[str, ...]) -> ObservedRow:
    """Return a model's data, with those of options `NAME=VALUE` in their place."""
    given = observations(entries)
    return model.observation(given.values, places=given.places)

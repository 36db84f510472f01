"""This file holds the arguments and options that `sample` and `smc` share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ..errors import FlowsError, Problem
from ..front.material import check_trainable
from ..front.source import Source, Untrained
from ..model.model import Model
from ..proposals.flow import KINDS
from .inputs import (
    OPEN_SHARE,
    PATH,
    SEED,
    json_option,
    load_posterior,
    observe_option,
)
from .model_argument import data_option, load_any

__all__ = ["OWN_FILES", "SUMMARY", "load_model", "load_source", "particle_options"]

SUMMARY = "summary.json"
"""Name of the file that says what the particles say."""

OWN_FILES = (SUMMARY, "particles*")
"""Patterns of the files in a folder of particles; another file is never replaced."""

_OPTIONS = (
    click.argument(
        "places", type=PATH, nargs=-1, required=True, metavar="[ARTIFACT] MODEL"
    ),
    click.option("-o", "--output", type=PATH, required=True, help="Folder to write."),
    observe_option,
    data_option,
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option(
        "--proposal",
        "kind",
        type=click.Choice(KINDS),
        default="flow",
        show_default=True,
        help="What particles are drawn from, or start from; without ARTIFACT: prior.",
    ),
    click.option(
        "--mixture-weight",
        type=OPEN_SHARE,
        default=0.1,
        show_default=True,
        help="Share of the prior in the mixture.",
    ),
    json_option,
)


def particle_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the shared arguments and options in front of its own.

    It is called with the `artifact`, None if there is none, and the `graph`.
    """

    @wraps(command)
    def run(*arguments: Any, places: tuple[Path, ...], **options: Any) -> Any:
        if len(places) > 2:
            raise click.UsageError("takes one artifact and one model")
        artifact = places[0] if len(places) == 2 else None
        return command(*arguments, artifact=artifact, graph=places[-1], **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def load_model(
    artifact: Path | None, graph: Path, data: Path | None, kind: str
) -> Model:
    """Return the model of a program or a document.

    Raises:
        FlowsError: If the proposal of that kind needs an artifact and there is none, or
            a flow is of no such model.
    """
    if artifact is None and kind != "prior":
        raise FlowsError(
            Problem(
                f"--proposal {kind}",
                "draws of a flow need a trained one",
                "ARTIFACT before MODEL, or --proposal prior",
            )
        )
    model = Model.from_graph(load_any(graph, data).graph)
    if artifact is not None:
        check_trainable(model)
    return model


def load_source(
    artifact: Path | None, model: Model, *, weighted: bool = True
) -> Source:
    """Return what particles of a model are drawn from.

    Raises:
        ArtifactError: If the artifact is damaged, or of another model.
    """
    if artifact is None:
        return Untrained.of(model)
    return load_posterior(artifact, model, weighted=weighted)

"""This file holds the arguments and options that `sample` and `smc` share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from daphne_bridge.command_line import (
    PATH,
    data_option,
    json_option,
    print_json,
    setting,
)

from ..errors import FlowsError
from ..front.material import check_trainable
from ..front.source import Source, Untrained
from ..model.model import Model
from ..proposals.flow import KINDS
from ..report.tables import posterior_table
from ..storage.folders import check_folder_place, new_folder
from .inputs import load_posterior
from .model_argument import load_any
from .options import OPEN_SHARE, SEED, artifact_and_model, observe_option
from .output import leave_untrusted, print_table, progress_bar

__all__ = [
    "SUMMARY",
    "check_output",
    "load_model",
    "load_source",
    "new_output",
    "particle_options",
    "print_summaries",
]

SUMMARY = "summary.json"
"""Name of the file that says what the particles say."""

_OWN_FILES = (SUMMARY, "particles*")
"""Patterns of the files in a folder of particles; another file is never replaced."""

_OPTIONS = (
    artifact_and_model,
    click.option("-o", "--output", type=PATH, required=True, help="Folder to write."),
    observe_option,
    data_option,
    setting("--seed", SEED, 0),
    click.option(
        "--proposal",
        "kind",
        type=click.Choice(KINDS),
        default="flow",
        show_default=True,
        help="What particles are drawn from, or start from; without ARTIFACT: prior.",
    ),
    setting("--mixture-weight", OPEN_SHARE, 0.1, "Share of the prior in the mixture."),
    json_option,
)


def particle_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the shared arguments and options in front of its own."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_output(output: Path) -> None:
    """Raise an error if particles cannot be written to a place."""
    check_folder_place(output, marker=SUMMARY, own=_OWN_FILES)


@contextmanager
def new_output(output: Path, *, quiet: bool) -> Iterator[tuple[Path, Progress]]:
    """Yield a folder that takes its place at the end, and a bar for the way there."""
    with (
        new_folder(output, marker=SUMMARY, own=_OWN_FILES) as folder,
        progress_bar(quiet=quiet) as progress,
    ):
        progress.start()
        yield folder, progress


def load_model(
    artifact: Path | None, place: Path, data: Path | None, kind: str
) -> Model:
    """Return the model of a program or a document.

    Raises:
        FlowsError: If the proposal of that kind needs an artifact and there is none, or
            a flow is of no such model.
    """
    if artifact is None and kind != "prior":
        raise FlowsError.at(
            f"--proposal {kind}",
            "draws of a flow need a trained one",
            "ARTIFACT before MODEL, or --proposal prior",
        )
    model = Model.from_graph(load_any(place, data).graph)
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


def print_summaries(
    whole: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]], *, as_json: bool
) -> None:
    """Print what particles say; leave by exit code 3 where that cannot be trusted."""
    if as_json:
        print_json(whole)
    else:
        for summary in summaries:
            print_table(posterior_table(summary))
    if not whole["ok"]:
        leave_untrusted()

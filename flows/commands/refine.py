"""This file is `daphne-flows refine`: a flow is bent to one data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from daphne_bridge.command_line import PATH, data_option, guarded, json_option, setting

from ..cnf.engines import prepare_kernel
from ..errors import ArtifactError
from ..front.posterior import refine
from ..front.settings import seconds_of
from ..model.model import Model
from ..storage.artifact import MANIFEST
from ..storage.folders import check_folder_place
from ..training.state import Report
from .inputs import load_posterior, observed_row
from .model_argument import load_any
from .options import (
    MOST_TIME,
    SEED,
    artifact_and_model,
    engine_option,
    observe_option,
)
from .output import leave_untrusted, print_artifact, progress_bar, say_compiling

__all__ = ["refine_command"]


@click.command("refine")
@artifact_and_model
@click.option("-o", "--output", type=PATH, required=True, help="Artifact, a folder.")
@observe_option
@data_option
@click.option("--config", type=PATH, help="TOML file of training settings.")
@setting("--budget", str, "1m", MOST_TIME)
@setting("--seed", SEED, 0)
@engine_option
@json_option
@guarded
def refine_command(
    artifact: Path | None,
    place: Path,
    output: Path,
    observe: tuple[str, ...],
    data: Path | None,
    config: Path | None,
    budget: str,
    seed: int,
    engine: str,
    *,
    as_json: bool,
) -> None:
    """Bend a flow to the data of MODEL, a program or a graph document.

    It begins from the flow of ARTIFACT where that is good at these data, else from
    particles alone. OUTPUT is an artifact that knows its data; `sample` draws from it.
    Exit code 3 where the draws cannot be trusted; the cautions say why.
    """
    seconds = seconds_of(budget)
    check_folder_place(output, marker=MANIFEST)
    _check_apart(artifact, output)
    model = Model.from_graph(load_any(place, data).graph)
    observed = observed_row(model, observe)
    trained = None if artifact is None else load_posterior(artifact, model)
    prepare_kernel(say_compiling)
    with progress_bar(quiet=as_json) as progress:
        progress.start()
        posterior = refine(
            model,
            observed,
            posterior=trained,
            budget=seconds,
            seed=seed,
            config=config,
            engine=engine,
            on_compile=say_compiling,
            **_shown(progress),
        )
    posterior.save(output)
    metrics = posterior.metrics
    ok, sentence = metrics["ok"], _sentence(metrics)
    print_artifact(output, metrics, sentence, ok=ok, as_json=as_json)
    if not ok:
        leave_untrusted(metrics["cautions"])


def _check_apart(artifact: Path | None, output: Path) -> None:
    """Raise if the flow of every data set would be lost to that of one."""
    if artifact is not None and output.exists() and artifact.samefile(output):
        raise ArtifactError.at(
            str(output),
            "this is the artifact to refine, which would be lost",
            "another folder",
        )


def _sentence(metrics: Mapping[str, Any]) -> str:
    """Return what fresh draws of the flow are worth at its data."""
    worth = "" if metrics["ok"] else "not to be trusted: "
    k_hat, error = metrics["k_hat"], metrics["log_evidence_standard_error"]
    shape = "" if k_hat is None else f", k-hat {k_hat:.2f}"
    return (
        f"{worth}ESS/N {metrics['ess_fraction']:.3f}{shape}, log evidence "
        f"{metrics['log_evidence']:.3f} ± {error:.3f}; "
        f"begun from {metrics['begun_from']}, particles by {metrics['particles']}"
    )


def _shown(progress: Progress) -> dict[str, Any]:
    """Return what `refine` calls with its progress: it is shown by two bars."""
    first = progress.add_task("particles", total=1.0, note="")
    second = progress.add_task("refining", total=1.0, note="")

    def particles(share: float, note: str) -> None:
        progress.update(first, completed=share, note=note)

    def training(report: Report) -> None:
        progress.update(first, completed=1.0, note="")
        progress.update(second, completed=report.fraction, note=report.note)

    return {"on_progress": particles, "on_report": training}

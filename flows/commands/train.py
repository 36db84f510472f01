"""This file is `daphne-flows train`: a model becomes an artifact."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from daphne_bridge.command_line import PATH, data_option, guarded, json_option, setting

from ..flow.kinds import KINDS
from ..front.run_folder import RunFolder
from ..front.settings import AUTO
from ..front.train import run_settings, settings_for, train
from ..report.words import IMPOSSIBLE_J, is_impossible_j, j_in_words
from ..storage.artifact import MANIFEST
from ..storage.checkpoint import training_folder
from ..storage.folders import check_folder_place
from ..storage.latent_rows import DIGITS
from ..training.config import CHOSEN, INTEGRATE, OBJECTIVES
from ..training.processes import joined_ranks
from ..training.state import Report
from ..training.tensorboard_log import board_for, check_board
from .inputs import load_model
from .options import NUISANCES, SEED, engine_option
from .output import leave_untrusted, print_artifact, progress_bar, say_compiling

__all__ = ["train_command"]


_EVENTS = ("rolled back", "more solver", "is followed", "nuisances:")
"""Of the words of a report's status those that have a line of their own."""


@click.command("train")
@click.argument("place", metavar="MODEL", type=PATH)
@data_option
@click.option("-o", "--output", type=PATH, required=True, help="Artifact, a folder.")
@click.option("--config", type=PATH, help="TOML file of training settings.")
@click.option(
    "--budget",
    help="Time of all work, by the wall clock, instead of the configuration's: 10m.",
)
@click.option(
    "--augment",
    type=NUISANCES,
    metavar=f"N|{CHOSEN}",
    help="Nuisance columns per latent instead of the configuration's; auto: as many "
    "for each as short trainings find that it needs.",
)
@setting("--seed", SEED, 0)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="What is minimised, instead of the configuration's.",
)
@click.option(
    "--one-data-set",
    is_flag=True,
    help="Train for the data of MODEL alone, by the free energy.",
)
@click.option(
    "--latents-from",
    metavar="FILE",
    help="Rows in place of the prior of some latents: an npz file with an array per "
    f"latent, an IDX file of images, or `{DIGITS}`. Forward objective only.",
)
@click.option(
    "--kind",
    type=click.Choice([AUTO, *KINDS]),
    help="Of flow, instead of the configuration's; auto, which it is where nothing "
    "else is given, for what does best by measurement.",
)
@click.option(
    "--integrate",
    type=click.Choice(INTEGRATE),
    help="Latents that need no network, as their conditional given the others is made "
    "of known factors: auto integrates them out where that pays, the default of the "
    "kinds autoregressive and cnf.",
)
@engine_option
@setting("--device", str, "cpu", "Where the flow is trained: cpu, cuda or cuda:N.")
@click.option(
    "--tensorboard",
    type=PATH,
    help="Also log into this folder for TensorBoard (extra `tensorboard`).",
)
@json_option
@guarded
def train_command(
    place: Path,
    data: Path | None,
    output: Path,
    config: Path | None,
    budget: str | None,
    augment: int | str | None,
    seed: int,
    objective: str | None,
    latents_from: str | None,
    kind: str | None,
    integrate: str | None,
    engine: str,
    device: str,
    tensorboard: Path | None,
    *,
    one_data_set: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a flow for MODEL, a program or a graph document.

    Beside OUTPUT the folder OUTPUT.training keeps a checkpoint, a log and the resolved
    configuration. An interrupted run is continued by --resume, by that configuration if
    no other is given; without it, it is replaced, which is said.
    """
    with joined_ranks() as ranks, ExitStack() as held:
        model = load_model(place, data)
        check_folder_place(output, marker=MANIFEST)
        folder = RunFolder(training_folder(output))
        amortised = False if one_data_set else None
        if resume and config is None:
            begun = run_settings(folder, kind=kind, amortised=amortised)
        else:
            begun = config
        settings = settings_for(
            model,
            begun,
            budget=budget,
            augment=augment,
            objective=objective,
            integrate=integrate,
            kind=kind,
            amortised=amortised,
            engine=engine,
            device=device,
        )
        for line in _what_is_there(output, folder, resume=resume):
            click.echo(line, err=True)
        shown = [_progress_of(held.enter_context(progress_bar(quiet=as_json)))]
        if tensorboard is not None:
            check_board(tensorboard)
            if ranks.rank == 0:
                shown.append(held.enter_context(board_for(tensorboard)))

        def show(report: Report) -> None:
            for each in shown:
                each(report)

        posterior = train(
            model,
            seed=seed,
            config=settings,
            latents_from=latents_from,
            engine=engine,
            device=device,
            checkpoint=folder.path,
            resume=resume,
            on_report=show,
            on_pilot=shown[0],
            on_compile=say_compiling,
            on_loss=lambda: click.echo(folder.loss("--resume"), err=True),
            ranks=ranks,
        )
        if ranks.rank > 0:
            return
        posterior.save(output)
    metrics = posterior.metrics
    best = next(value for key, value in metrics.items() if key.startswith("best_"))
    ok = best is not None or "without_density" in metrics
    ok = ok and not _is_impossible(metrics) and "rollbacks" not in metrics
    kind = posterior.artifact.manifest.flow.kind
    sentence = f"{kind}, {_figure(metrics, best)}"
    figures = {"kind": kind, **metrics}
    print_artifact(output, figures, sentence, ok=ok, as_json=as_json)
    if not ok:
        leave_untrusted()


def _what_is_there(output: Path, folder: RunFolder, *, resume: bool) -> Iterator[str]:
    """Yield what to know of the places of a flow and its run before it is trained.

    What `train` itself says of the run comes after it.
    """
    if resume:
        if not folder.has_checkpoint:
            yield f"{folder.path}: no checkpoint, starting anew"
        return
    if (output / MANIFEST).exists():
        yield f"{output}: the flow in it will be replaced"


def _is_impossible(metrics: Mapping[str, Any]) -> bool:
    """Return whether J was certified and cannot be what it is."""
    best, error = metrics.get("best_j"), metrics.get("standard_error")
    return best is not None and error is not None and is_impossible_j(best, error)


def _figure(metrics: Mapping[str, Any], best: float | None) -> str:
    """Return how good the flow is, and what that took."""
    if "rollbacks" in metrics:
        figure = (
            "no step of training had a finite loss and gradient: this flow is not "
            "trained (`daphne-flows infer` answers without a flow)"
        )
    elif "without_density" in metrics:
        figure = (
            f"{metrics['without_density']:.1%} of the flow's draws have no density "
            "and weigh nothing; J of the others about "
            f"{metrics['best_j_of_others']:.3g} nats"
        )
    elif best is None:
        figure = "no certified estimate was finite: this flow cannot be trusted"
    elif _is_impossible(metrics):
        figure = (
            f"J {best:.3g} ± {metrics['standard_error']:.2g} nats ({IMPOSSIBLE_J}; "
            "`daphne-flows infer` answers without a flow)"
        )
    elif "best_j" in metrics:
        words = j_in_words(best, metrics.get("ess"))
        error = metrics.get("standard_error", math.nan)
        figure = f"J about {best:.3g} +- {error:.1g} nats ({words})"
    elif "best_free_energy" in metrics:
        figure = f"free energy, at least minus the log evidence, {best:.4g} nats"
    else:
        figure = f"forward KL up to a constant {best:.4g} nats"
    more = ""
    if "certify_draws" in metrics and "rollbacks" not in metrics:
        figure += f", by {metrics['certify_draws']} draws only, as time was short,"
        more = "; `daphne-flows evaluate` draws more"
    iterations, seconds = metrics["iterations"], metrics["seconds"]
    return f"{figure} after {iterations} iterations, {seconds:.0f} s{more}"


def _progress_of(progress: Progress) -> Callable[[Report], None]:
    """Return what shows reports by a progress bar."""
    task = progress.add_task("training", total=1.0, note="")

    def show(report: Report) -> None:
        note = f"{report.phase}, {report.note}"
        if math.isfinite(report.best):
            note += f", best {report.best:.4g} nats"
        progress.start()
        for line in _events(report):
            progress.console.print(f"iteration {report.iteration}: {line}")
        progress.update(task, completed=report.fraction, note=note)

    return show


def _events(report: Report) -> Iterator[str]:
    """Yield what is worth a line of its own."""
    is_solved = report.solver_bias is not None
    steps = f", {report.num_steps} solver steps" if is_solved else ""
    if any(event in report.status for event in _EVENTS):
        yield report.status
    if report.certified is not None:
        few = " by few draws" if "as time is short" in report.status else ""
        ess = "" if report.ess is None else f", median ESS/N {report.ess:.2f}"
        yield f"certified J {report.certified.symmetric.sentence()}{few}{ess}{steps}"
    if report.certified_forward is not None:
        forward = report.certified_forward.sentence()
        yield f"certified forward KL up to a constant {forward}{steps}"
    if report.certified_free_energy is not None:
        yield f"certified free energy {report.certified_free_energy.sentence()}"

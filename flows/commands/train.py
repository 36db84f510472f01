"""This file is `daphne-flows train`: a model becomes an artifact."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np
import torch
from rich.progress import Progress, TaskID

from daphne_bridge.command_line import guarded, print_json
from daphne_bridge.files import cannot_write
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert

from ..cnf.engines import ENGINES, EngineFactory, choose_engine
from ..cnf.flow import ConditionalFlow, build_flow
from ..errors import FlowsError, Problem
from ..flow.building import build_structure, prepare_structure
from ..flow.structure import Structure
from ..model.data_backed import DataBackedModel
from ..model.model import Model
from ..storage.artifact import MANIFEST, Artifact
from ..storage.checkpoint import (
    RunKey,
    load_checkpoint,
    save_checkpoint,
    training_folder,
)
from ..storage.folders import check_folder_place, own_folder, write_file
from ..storage.latent_rows import DIGITS, latent_arrays, split_rows
from ..training.config import (
    MOST_NUISANCES,
    OBJECTIVES,
    ConfigurationError,
    TrainingConfig,
    nuisance_counts,
)
from ..training.loop import Fit, Report, TrainingState, fit
from ..training.processes import Ranks, joined_ranks, local_rank, local_size
from ..training.tensorboard_log import board_for, check_board
from .inputs import (
    PATH,
    SEED,
    json_option,
    load_config,
    load_graph,
    load_model,
    problem_of,
    progress_bar,
    say_compiling,
)

__all__ = ["train_command"]

_CHECKPOINT = "checkpoint.safetensors"
_LOG = "log.jsonl"
_CONFIG = "config.toml"
_OWN_FILES = (_CHECKPOINT, _LOG, _CONFIG, ".*.part")
_SECONDS_BETWEEN_CHECKPOINTS = 5.0


@click.command("train")
@click.argument("graph", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Artifact, a folder.")
@click.option("--config", type=PATH, help="TOML file of training settings.")
@click.option("--budget", help="Seconds of work instead of the configuration's: 10m.")
@click.option(
    "--augment",
    type=click.IntRange(0, MOST_NUISANCES),
    help="Nuisance columns per latent instead of the configuration's.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="What is minimised, instead of the configuration's.",
)
@click.option(
    "--latents-from",
    metavar="FILE",
    help="Rows in place of the prior of some latents: an npz file with an array per "
    f"latent, an IDX file of images, or `{DIGITS}`. Forward objective only.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What solves the flow in training.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where the flow is trained: cpu, cuda or cuda:N.",
)
@click.option(
    "--tensorboard",
    type=PATH,
    help="Also log into this folder for TensorBoard (extra `tensorboard`).",
)
@json_option
@guarded
def train_command(
    graph: Path,
    output: Path,
    config: Path | None,
    budget: str | None,
    augment: int | None,
    seed: int,
    objective: str | None,
    latents_from: str | None,
    engine: str,
    device: str,
    tensorboard: Path | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a flow for the model of the document GRAPH.

    Beside OUTPUT the folder OUTPUT.training keeps a checkpoint, a log and the resolved
    configuration. An interrupted run is continued by --resume.
    """
    settings = load_config(config, budget)
    if augment is not None:
        settings = replace(settings, augment=augment)
    if objective is not None:
        settings = replace(settings, objective=objective)
    with joined_ranks() as ranks, ExitStack() as held:
        checked = load_graph(graph)
        model = load_model(checked)
        check_folder_place(output, marker=MANIFEST)
        folder = training_folder(output)
        check_folder_place(folder, marker=_CONFIG, own=_OWN_FILES)
        if tensorboard is not None:
            check_board(tensorboard)
        place = _device(device)
        make_engine = _engine(engine, place)
        target = _target(model, latents_from, settings)
        resolved = {**settings.as_mapping(), **target.origin}
        key = RunKey(checked.digest, seed, resolved)
        structure = ranks.shared(lambda: _structure(checked, target, settings, seed))
        if ranks.rank == 0:
            held.enter_context(own_folder(folder, "training"))
        state = ranks.shared(lambda: _checkpoint(folder, key) if resume else None)
        flow = build_flow(structure, settings.flow, seed=seed).to(place)
        run = _fit(target, flow, settings, seed, state, make_engine, ranks)
        if ranks.rank > 0:
            for _ in run:
                pass
            return
        write_file(folder / _CONFIG, _toml(settings.as_mapping()).encode())
        board = nullcontext() if tensorboard is None else board_for(tensorboard)
        with board as add:
            last = _train(
                run, key, folder, resumed=state is not None, quiet=as_json, add=add
            )
        flow.load_state_dict(run.best_state_dict())
        has_density = target.training.has_density
        metrics = _metrics(run, last, has_density=has_density)
        artifact = Artifact.from_flow(
            flow,
            checked,
            model.layout,
            seed=seed,
            config=resolved,
            metrics=metrics,
            without_density=target.without_density,
        )
        artifact.save(output)
    if as_json:
        print_json({"ok": True, "output": str(output), "metrics": metrics})
    else:
        figure = (
            f"J about {metrics['best_j']:.3g}"
            if has_density
            else f"forward KL up to a constant {metrics['best_forward']:.4g}"
        )
        click.echo(
            f"{output}: {figure} nats after {metrics['iterations']} iterations, "
            f"{metrics['seconds']:.0f} s"
        )


def _checkpoint(folder: Path, key: RunKey) -> TrainingState | None:
    if (folder / _CHECKPOINT).exists():
        return load_checkpoint(folder / _CHECKPOINT, key)
    click.echo(f"{folder}: no checkpoint, starting anew", err=True)
    return None


def _device(name: str) -> torch.device:
    """Return the device of a name; with several processes each its own GPU.

    Raises:
        FlowsError: If there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    count = torch.cuda.device_count()
    if device.type == "cuda" and device.index is None and count:
        device = torch.device("cuda", local_rank() % count)
    is_there = device.type == "cpu" or (
        device.type == "cuda" and (device.index or 0) < count
    )
    if not is_there:
        known = ["cpu", *(f"cuda:{number}" for number in range(count))]
        raise FlowsError(
            Problem("--device", "no such device here", ", ".join(known), name)
        )
    return device


@dataclass(frozen=True, slots=True)
class _Target:
    """What is trained on, and certified with.

    Attributes:
        training: Draws, and a density if there is one.
        held_out: Draws that certify.
        without_density: Latents whose values come from a file.
        origin: Of those values; enters the configuration of the run.
    """

    training: Model | DataBackedModel
    held_out: Model | DataBackedModel
    without_density: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)


def _target(model: Model, source: str | None, settings: TrainingConfig) -> _Target:
    """Return the model, or with rows of a file in place of a prior.

    Raises:
        FlowsError: If the file fits no latent, or the objective needs a density.
    """
    if source is None:
        return _Target(model, model)
    if settings.objective != "forward":
        raise FlowsError(
            Problem(
                "--latents-from",
                "latents that come from a file have no density, so only the forward "
                "objective can be computed",
                "--objective forward",
                settings.objective,
            )
        )
    arrays = latent_arrays(source, seed=0)
    training, held_out = (
        DataBackedModel.from_arrays(model, part, source) for part in split_rows(arrays)
    )
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return _Target(
        training,
        held_out,
        tuple(v.name for key in arrays for v in model.layout.latents_named(key)),
        {
            "latents_from": {
                "source": Path(source).name,
                "digest": f"sha256:{digest.hexdigest()}",
                "rows": len(training.table),
                "held_out_rows": len(held_out.table),
            }
        },
    )


def _engine(name: str, device: torch.device) -> EngineFactory:
    if device.type != "cpu":
        if name == "fused":
            raise FlowsError(
                Problem(
                    "--engine fused",
                    "the fused kernel runs on the CPU only",
                    "--engine torch",
                    f"--device {device}",
                )
            )
        name = "torch" if name == "auto" else name
    try:
        return choose_engine(name, on_compile=say_compiling, processes=local_size())
    except ValueError as error:
        raise FlowsError(problem_of(str(error))) from None


def _structure(
    graph: Graph, target: _Target, settings: TrainingConfig, seed: int
) -> Structure:
    model = target.training
    try:
        nuisances = nuisance_counts(settings.augment, model.layout)
    except ConfigurationError as error:
        raise FlowsError(*(problem_of(text) for text in error.problems)) from None
    try:
        structure = build_structure(invert(graph), model.layout, nuisances)
    except ValueError as error:  # a latent that has no free column
        raise FlowsError(problem_of(str(error))) from None
    return prepare_structure(
        model,
        structure,
        model.layout,
        {node.name: node.parents for node in graph.nodes},
        num_draws=settings.normalisation_draws,
        seed=seed,
    )


def _fit(
    target: _Target,
    flow: ConditionalFlow,
    settings: TrainingConfig,
    seed: int,
    state: TrainingState | None,
    engine: EngineFactory,
    ranks: Ranks,
) -> Fit:
    try:
        return fit(
            target.training,
            flow,
            settings,
            seed=seed,
            state=state,
            engine=engine,
            held_out=target.held_out,
            ranks=ranks,
        )
    except ValueError as error:
        raise FlowsError(problem_of(str(error))) from None


def _train(
    run: Fit,
    key: RunKey,
    folder: Path,
    *,
    resumed: bool,
    quiet: bool,
    add: Callable[[Report], None] | None,
) -> Report | None:
    """Run a fit to its end with checkpoints, a log and a progress bar."""
    log = folder / _LOG
    first = run.state().values["iteration"]
    kept = _log_until(log, first) if resumed else ""
    write_file(log, kept.encode())
    last: Report | None = None
    saved = time.monotonic()
    with (
        progress_bar(quiet=quiet) as progress,
        _appended(log) as lines,
    ):
        task = progress.add_task("training", total=1.0, note="")
        try:
            for report in run:
                last = report
                lines.write(json.dumps(_report_json(report)) + "\n")
                lines.flush()
                if add is not None:
                    add(report)
                _show_report(progress, task, report)
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    save_checkpoint(run.state(), key, folder / _CHECKPOINT)
                    saved = time.monotonic()
        finally:
            # Also when interrupted: the state is that of the last report.
            save_checkpoint(run.state(), key, folder / _CHECKPOINT)
    return last


@contextmanager
def _appended(path: Path) -> Iterator[TextIO]:
    """Yield a file to write more to."""
    try:
        with path.open("a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise FlowsError(cannot_write(path, error)) from None


def _log_until(path: Path, iteration: int) -> str:
    """Return the lines of a log up to an iteration."""
    if not path.exists():
        return ""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["iteration"] > iteration:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
    return "".join(kept)


def _report_json(report: Report) -> dict[str, Any]:
    plain = asdict(report)
    certified = report.certified
    plain["certified"] = None if certified is None else asdict(certified)
    return json.loads(  # type: ignore[no-any-return]
        json.dumps(plain)
        .replace("NaN", "null")
        .replace("-Infinity", "null")
        .replace("Infinity", "null")
    )


def _show_report(progress: Progress, task: TaskID, report: Report) -> None:
    note = f"{report.phase}, {report.iteration} iterations, loss {report.loss:.3g}"
    if math.isfinite(report.best):
        note += f", best {report.best:.4g} nats"
    if report.status.startswith("rolled back") or "more solver" in report.status:
        progress.console.print(f"iteration {report.iteration}: {report.status}")
    if report.certified is not None:
        ess = "" if report.ess is None else f", median ESS/N {report.ess:.2f}"
        progress.console.print(
            f"iteration {report.iteration}: certified J "
            f"{report.certified.symmetric.sentence()}{ess}, "
            f"{report.num_steps} solver steps"
        )
    if report.certified_forward is not None:
        progress.console.print(
            f"iteration {report.iteration}: certified forward KL up to a constant "
            f"{report.certified_forward.sentence()}, {report.num_steps} solver steps"
        )
    progress.update(task, completed=report.fraction, note=note)


def _metrics(run: Fit, last: Report | None, *, has_density: bool) -> dict[str, Any]:
    values = run.state().values
    return {
        "best_j" if has_density else "best_forward": values["best"],
        "iterations": values["iteration"],
        "seconds": values["seconds"],
        "solver_steps": values["num_steps"],
        "status": values["status"] or (last.status if last else ""),
    }


def _toml(table: Mapping[str, Any]) -> str:
    """Return a flat table with one level of sub-tables as TOML."""
    lines = [
        f"{_toml_key(key)} = {json.dumps(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", _toml(value).rstrip()]
    return "\n".join(lines) + "\n"


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)

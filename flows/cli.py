"""This file is the command `daphne-flows`: train, sample, evaluate, summary."""

import json
import math
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from daphne_bridge import __version__
from daphne_bridge.checking import check_document
from daphne_bridge.command_line import guarded, print_json, warn
from daphne_bridge.deep_json import JsonError, loads
from daphne_bridge.document import load_document, load_names
from daphne_bridge.errors import GraphError
from daphne_bridge.graph import Graph
from daphne_bridge.inversion import invert

from .artifact import MANIFEST, Artifact
from .checkpoint import RunKey, load_checkpoint, save_checkpoint, training_folder
from .cnf.engines import ENGINES, EngineFactory, choose_engine
from .cnf.flow import ConditionalFlow, build_flow
from .cnf.structure import build_structure
from .errors import FlowsError, Problem
from .evaluation import Evaluation, EvaluationConfig, evaluate
from .flow_proposal import FlowProposal
from .folders import check_folder_place, read_file, write_file
from .inference.diagnostics import summarize
from .inference.importance import importance_sample
from .inference.particle_file import save_particles
from .inference.particles import Particles
from .inference.proposal import PriorProposal, Proposal
from .model.density import Model, capabilities
from .tables import evaluation_table, posterior_table
from .training import Fit, Report, fit
from .training_config import (
    ConfigurationError,
    TrainingConfig,
    training_config_from,
)

__all__ = ["main"]

_Path = click.Path(path_type=Path)
_CHECKPOINT = "checkpoint.safetensors"
_LOG = "log.jsonl"
_CONFIG = "config.toml"
_SECONDS_BETWEEN_CHECKPOINTS = 5.0
_FILE_LIMIT = 2**30

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable results."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daphne-flows")
def main() -> None:
    """Train a flow for a graph document, and use it as a proposal.

    \b
    daphne-flows train graph.json -o artifact             model -> artifact
    daphne-flows sample artifact graph.json -o particles  data -> weighted particles
    daphne-flows evaluate artifact graph.json             how good is the proposal?
    daphne-flows summary runs/NAME                        the tables of a finished run

    Exit codes: 0 done, 2 bad input, 1 failure, 130 interrupted.
    """  # noqa: D301 - the command line library reads \\b as a character
    # The networks are small: more threads cost more than they bring.
    torch.set_num_threads(1)


# --- reading what the user names -----------------------------------------------------


def _load_graph(path: Path) -> Graph:
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


def _load_model(graph: Graph) -> Model:
    """Return the model of a graph that a flow can be used for.

    Raises:
        FlowsError: If nothing is observed, or a latent is not continuous.
    """
    can = capabilities(graph)
    if not can.observed:
        raise FlowsError(
            Problem(graph.source, "the program observes nothing", "an observe")
        )
    if not can.has_free_coordinates:
        raise FlowsError(
            Problem(graph.source, can.sentence.rstrip("."), "continuous latents")
        )
    return Model.from_graph(graph)


def _load_config(path: Path | None, budget: str | None) -> TrainingConfig:
    """Return the training configuration of a TOML file, or the default."""
    table: Mapping[str, Any] = {}
    if path is not None:
        content = read_file(path, "a TOML file", limit=_FILE_LIMIT)
        try:
            table = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FlowsError(Problem(str(path), f"not TOML: {error}")) from None
    try:
        config = training_config_from(table, str(path or "the default configuration"))
    except ConfigurationError as error:
        raise FlowsError(*(_sentence(text) for text in error.problems)) from None
    if budget is not None:
        config = replace(config, budget_seconds=_seconds(budget))
    return config


def _sentence(text: str) -> Problem:
    """Return a problem of a sentence that is already complete."""
    where, _, what = text.partition(": ")
    return Problem(where, what)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    value = float(match.group(1)) if match else 0.0
    if match is None or value <= 0:
        raise FlowsError(
            Problem("--budget", "not a duration", "90s, 10m or 1.5h", repr(text))
        )
    return value * {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}[match.group(2)]


def _observations(entries: tuple[str, ...]) -> dict[str, Any]:
    """Return values by name of options `NAME=VALUE`."""
    values: dict[str, Any] = {}
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
    return values


def _as_data(value: Any) -> Any:
    return tuple(map(_as_data, value)) if isinstance(value, list) else value


# --- progress -------------------------------------------------------------------------


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
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


def _print(renderable: Any) -> None:
    Console(soft_wrap=False).print(renderable, highlight=False)


# --- train ----------------------------------------------------------------------------


@main.command()
@click.argument("graph", type=_Path)
@click.option("-o", "--output", type=_Path, required=True, help="Artifact, a folder.")
@click.option("--config", type=_Path, help="TOML file of training settings.")
@click.option("--budget", help="Seconds of work instead of the configuration's: 10m.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What solves the flow in training.",
)
@_json_option
@guarded
def train(
    graph: Path,
    output: Path,
    config: Path | None,
    budget: str | None,
    seed: int,
    engine: str,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a flow for the model of the document GRAPH.

    Beside OUTPUT the folder OUTPUT.training keeps a checkpoint, a log and the resolved
    configuration. An interrupted run is continued by --resume.
    """
    settings = _load_config(config, budget)
    checked = _load_graph(graph)
    model = _load_model(checked)
    check_folder_place(output, marker=MANIFEST)
    flow = _new_flow(checked, model, settings, seed)
    key = RunKey(checked.digest, seed, settings.as_mapping())
    folder = training_folder(output)
    state = None
    if resume and (folder / _CHECKPOINT).exists():
        state = load_checkpoint(folder / _CHECKPOINT, key)
    elif resume:
        click.echo(f"{folder}: no checkpoint, starting anew", err=True)
    run = fit(model, flow, settings, seed=seed, state=state, engine=_engine(engine))
    folder.mkdir(exist_ok=True)
    write_file(folder / _CONFIG, _toml(settings.as_mapping()).encode())
    last = _train(run, key, folder, resumed=state is not None, quiet=as_json)
    flow.load_state_dict(run.best_state_dict())
    metrics = _metrics(run, last)
    artifact = Artifact.from_flow(
        flow,
        checked,
        model.layout,
        seed=seed,
        config=settings.as_mapping(),
        metrics=metrics,
    )
    artifact.save(output)
    if as_json:
        print_json({"ok": True, "output": str(output), "metrics": metrics})
    else:
        click.echo(
            f"{output}: J about {metrics['best_j']:.3g} nats after "
            f"{metrics['iterations']} iterations, {metrics['seconds']:.0f} s"
        )


def _engine(name: str) -> EngineFactory:
    def say() -> None:
        click.echo("compiling the training kernel, once on this machine", err=True)

    try:
        return choose_engine(name, on_compile=say)
    except ValueError as error:
        raise FlowsError(_sentence(str(error))) from None


def _new_flow(
    graph: Graph, model: Model, settings: TrainingConfig, seed: int
) -> ConditionalFlow:
    structure = build_structure(invert(graph), model.layout, settings.augment)
    return build_flow(structure, settings.flow, seed=seed)


def _train(
    run: Fit, key: RunKey, folder: Path, *, resumed: bool, quiet: bool
) -> Report | None:
    """Run a fit to its end with checkpoints, a log and a progress bar."""
    log = folder / _LOG
    first = run.state().values["iteration"]
    kept = _log_until(log, first) if resumed else ""
    write_file(log, kept.encode())
    last: Report | None = None
    saved = time.monotonic()
    with _progress(quiet=quiet) as progress, log.open("a", encoding="utf-8") as lines:
        task = progress.add_task("training", total=1.0, note="")
        try:
            for report in run:
                last = report
                lines.write(json.dumps(_report_json(report)) + "\n")
                lines.flush()
                _show_report(progress, task, report)
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    save_checkpoint(run.state(), key, folder / _CHECKPOINT)
                    saved = time.monotonic()
        finally:
            # Also when interrupted: the state is that of the last report.
            save_checkpoint(run.state(), key, folder / _CHECKPOINT)
    return last


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
        note += f", best J {report.best:.3g}"
    if report.status.startswith("rolled back") or "more solver" in report.status:
        progress.console.print(f"iteration {report.iteration}: {report.status}")
    if report.certified is not None:
        ess = "" if report.ess is None else f", median ESS/N {report.ess:.2f}"
        progress.console.print(
            f"iteration {report.iteration}: certified J "
            f"{report.certified.symmetric.sentence()}{ess}, "
            f"{report.num_steps} solver steps"
        )
    progress.update(task, completed=report.fraction, note=note)


def _metrics(run: Fit, last: Report | None) -> dict[str, Any]:
    values = run.state().values
    return {
        "best_j": values["best"],
        "iterations": values["iteration"],
        "seconds": values["seconds"],
        "solver_steps": values["num_steps"],
        "status": values["status"] or (last.status if last else ""),
    }


def _toml(table: Mapping[str, Any]) -> str:
    """Return a flat table with one level of sub-tables as TOML."""
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", _toml(value).rstrip()]
    return "\n".join(lines) + "\n"


# --- sample ---------------------------------------------------------------------------


@main.command()
@click.argument("artifact", type=_Path)
@click.argument("graph", type=_Path)
@click.option("-o", "--output", type=_Path, required=True, help="Folder to write.")
@click.option(
    "--observe",
    multiple=True,
    metavar="NAME=VALUE",
    help="Other data than the document's; may be repeated.",
)
@click.option(
    "--num-particles", type=click.IntRange(1), default=10_000, show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--proposal",
    "kind",
    type=click.Choice(["flow", "prior"]),
    default="flow",
    show_default=True,
    help="What particles are drawn from.",
)
@_json_option
@guarded
def sample(
    artifact: Path,
    graph: Path,
    output: Path,
    observe: tuple[str, ...],
    num_particles: int,
    seed: int,
    kind: str,
    *,
    as_json: bool,
) -> None:
    """Draw weighted particles of the posterior given the data of GRAPH.

    OUTPUT/particles.npz holds values by name and log weights, OUTPUT/summary.json what
    they say.
    """
    checked = _load_graph(graph)
    model = _load_model(checked)
    values = _observations(observe)
    data = model.observation(values)
    loaded = Artifact.load(artifact)
    flow = loaded.flow_for(checked, model.layout)
    check_folder_place(output, marker="summary.json")
    proposal: Proposal = (
        PriorProposal(model) if kind == "prior" else FlowProposal(flow, model)
    )
    parts = []
    with _progress(quiet=as_json) as progress:
        task = progress.add_task("sampling", total=num_particles, note="")
        for report in importance_sample(
            model, proposal, data, num_particles, seed=seed
        ):
            parts.append(report.particles)
            totals = report.totals
            progress.update(
                task,
                completed=totals.num_particles,
                note=f"ESS/N {totals.ess_fraction:.3f}",
            )
    particles = Particles.merge(parts)
    summary = {
        **summarize(particles).to_json(),
        "ok": True,
        "model_name": graph.parent.name if graph.name == "graph.json" else graph.stem,
        "model": checked.digest,
        "artifact": str(artifact),
        "graph": str(graph),
        "proposal": kind,
        "seed": seed,
        "observed": dict(
            zip(
                (n for v in model.layout.observed for n in v.column_names),
                data.tolist(),
                strict=True,
            )
        ),
    }
    output.mkdir(exist_ok=True)
    save_particles(particles, output / "particles.npz")
    write_file(output / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    if as_json:
        print_json(summary)
    else:
        _print(posterior_table(summary))


# --- evaluate and summary -------------------------------------------------------------


@main.command("evaluate")
@click.argument("artifact", type=_Path)
@click.argument("graph", type=_Path)
@click.option("-o", "--output", type=_Path, help="JSON file to write.")
@click.option("--num-draws", type=click.IntRange(2), default=10_000, show_default=True)
@click.option("--num-data-sets", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--num-particles", type=click.IntRange(1), default=1000, show_default=True
)
@click.option("--seed", type=int, default=1, show_default=True)
@_json_option
@guarded
def evaluate_command(
    artifact: Path,
    graph: Path,
    output: Path | None,
    num_draws: int,
    num_data_sets: int,
    num_particles: int,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Measure the flow of ARTIFACT as a proposal for the model of GRAPH."""
    checked = _load_graph(graph)
    model = _load_model(checked)
    loaded = Artifact.load(artifact)
    flow = loaded.flow_for(checked, model.layout)
    config = EvaluationConfig(num_draws, num_data_sets, num_particles, seed)
    result: Evaluation | None = None
    with _progress(quiet=as_json) as progress:
        task = progress.add_task("evaluating", total=1.0, note="")
        for report in evaluate(model, flow, config, tolerance=loaded.tolerance):
            progress.update(task, completed=report.rows_done / report.rows_total)
            result = report.result
    if result is None:
        raise AssertionError("an evaluation ends with its result")
    plain = {"ok": True, "model": checked.digest, **result.to_json()}
    if output is not None:
        write_file(output, (json.dumps(plain, indent=1) + "\n").encode())
    if as_json:
        print_json(plain)
    else:
        _print(evaluation_table(plain))


@main.command()
@click.argument("run", type=_Path)
@guarded
def summary(run: Path) -> None:
    """Print the tables of the finished run in the folder RUN."""
    shown: tuple[tuple[Path, Callable[[Mapping[str, Any]], Any]], ...] = (
        (run / "particles" / "summary.json", posterior_table),
        (run / "evaluation.json", evaluation_table),
    )
    for path, table in shown:
        content = read_file(path, "a file of a finished run", limit=_FILE_LIMIT)
        try:
            _print(table(json.loads(content)))
        except (ValueError, KeyError, TypeError):
            raise FlowsError(
                Problem(str(path), "damaged", "what `sample` and `evaluate` write")
            ) from None
    click.echo("files")
    for path in sorted(run.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            click.echo(f"  {path}")

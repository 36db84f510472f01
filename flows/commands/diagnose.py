"""This file is `daphne-flows diagnose`: it finds out where a flow is wrong."""

import json
from importlib.util import find_spec
from pathlib import Path

import click

from daphne_bridge.command_line import guarded, print_json

from ..artifact import Artifact
from ..command_input import (
    PATH,
    SEED,
    json_option,
    load_graph,
    load_model,
    print_table,
    progress_bar,
)
from ..diagnosis import Diagnosis, DiagnosisConfig, diagnose
from ..folders import write_folder
from ..plots import coverage_plot, ranks_plot, values_plot, weakness_plot
from ..tables import diagnosis_table

__all__ = ["diagnose_command"]


@click.command("diagnose")
@click.argument("artifact", type=PATH)
@click.argument("graph", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write.")
@click.option(
    "--num-data-sets", type=click.IntRange(2), default=1000, show_default=True
)
@click.option(
    "--num-particles", type=click.IntRange(100), default=100, show_default=True
)
@click.option("--seed", type=SEED, default=1, show_default=True)
@json_option
@guarded
def diagnose_command(
    artifact: Path,
    graph: Path,
    output: Path,
    num_data_sets: int,
    num_particles: int,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Diagnose the flow of ARTIFACT over data that the model of GRAPH draws.

    OUTPUT/diagnosis.json holds ESS and k-hat of every data set, calibration ranks,
    coverage, KS per marginal and what each node's conditional costs; beside it stand
    pictures, if matplotlib is installed.
    """
    checked = load_graph(graph)
    model = load_model(checked)
    flow = Artifact.load(artifact).flow_for(checked, model.layout)
    config = DiagnosisConfig(num_data_sets, num_particles, seed)
    result: Diagnosis | None = None
    with progress_bar(quiet=as_json) as progress:
        task = progress.add_task("diagnosing", total=1.0, note="")
        for report in diagnose(model, flow, config):
            progress.update(task, completed=report.fraction)
            result = report.result
    if result is None:
        raise AssertionError("a diagnosis ends with its result")
    plain = {"ok": True, "model": checked.digest, **result.to_json()}
    files = {"diagnosis.json": (json.dumps(plain, indent=1) + "\n").encode()}
    if find_spec("matplotlib") is not None:
        files |= {
            "ranks.svg": ranks_plot(plain).encode(),
            "coverage.svg": coverage_plot(plain).encode(),
            "weakness.svg": weakness_plot(plain).encode(),
            "ess.svg": values_plot(plain["ess_fractions"], "ESS / N").encode(),
            "k-hat.svg": values_plot(plain["k_hats"], "Pareto k-hat").encode(),
        }
    write_folder(output, files, marker="diagnosis.json")
    if as_json:
        print_json(plain)
    else:
        print_table(diagnosis_table(plain))

"""This file is `daphne-flows evaluate`: a flow is measured as a proposal."""

from pathlib import Path

import click

from daphne_bridge.command_line import PATH, data_option, guarded, json_option, setting
from daphne_bridge.files import check_no_input
from daphne_bridge.graph.document import names_path

from ..errors import FlowsError
from ..report.tables import evaluation_table
from ..storage.folders import check_file_place, write_file
from ..storage.json_values import json_bytes
from .inputs import load_model, load_posterior
from .options import MOST_HELD, SEED, Whole
from .output import print_figures, shown_progress

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.argument("artifact", type=PATH)
@click.argument("place", metavar="MODEL", type=PATH)
@data_option
@click.option("-o", "--output", type=PATH, help="JSON file to write.")
@setting("--num-draws", Whole(2, MOST_HELD), 10_000)
@setting("--num-data-sets", Whole(1, MOST_HELD), 100)
@setting("--num-particles", Whole(1, MOST_HELD), 1000)
@setting("--seed", SEED, 1)
@json_option
@guarded
def evaluate_command(
    artifact: Path,
    place: Path,
    data: Path | None,
    output: Path | None,
    num_draws: int,
    num_data_sets: int,
    num_particles: int,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Measure the flow of ARTIFACT as a proposal for MODEL, a program or document."""
    if output is not None:
        inputs = (place, names_path(place), *artifact.glob("*"))
        check_no_input(output, inputs, FlowsError)
    model = load_model(place, data)
    if output is not None:
        check_file_place(output)
    posterior = load_posterior(artifact, model, amortised=True)
    with shown_progress("evaluating", quiet=as_json) as show:
        result = posterior.evaluate(
            num_draws,
            num_data_sets=num_data_sets,
            num_particles=num_particles,
            seed=seed,
            on_progress=lambda share: show(share, ""),
        )
    plain = {"ok": True, "model": model.graph.digest, **result.to_json()}
    if output is not None:
        write_file(output, json_bytes(plain, str(output)))
    print_figures(plain, evaluation_table, as_json=as_json)

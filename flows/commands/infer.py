"""This file is `daphne-flows infer`: a program and its data become an answer."""

import sys
from pathlib import Path

import click

from daphne_bridge.command_line import guarded, print_json
from daphne_bridge.graph.document import dump_document, dump_names

from ..front.answer import ANSWER, OWN_FILES
from ..front.inference import METHODS, infer
from ..model.model import Model
from ..report.inference_table import inference_table
from ..storage.folders import check_folder_place, new_folder
from .inputs import (
    PATH,
    SEED,
    UNTRUSTED,
    Real,
    Whole,
    json_option,
    load_posterior,
    observations,
    observe_option,
    print_table,
    progress_bar,
)
from .model_argument import data_option, load_any

__all__ = ["infer_command"]


@click.command("infer")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="Folder to write.")
@observe_option
@data_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How; auto chooses and says why.",
)
@click.option("--artifact", type=PATH, help="Trained flow to draw from, if it is good.")
@click.option("--budget", default="10m", show_default=True, help="Most time: 90s, 10m.")
@click.option(
    "--num-particles",
    type=Whole(100, 10_000_000),
    default=10_000,
    show_default=True,
    help="Draws of importance sampling and of exact answers; a tenth are the lines of"
    " each tempered island.",
)
@click.option(
    "--target-ess",
    type=Real(0, min_open=True),
    default=1_000.0,
    show_default=True,
    help="Effective sample size of the slowest latent that is enough.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@json_option
@guarded
def infer_command(
    model: Path,
    output: Path | None,
    observe: tuple[str, ...],
    data: Path | None,
    method: str,
    artifact: Path | None,
    budget: str,
    num_particles: int,
    target_ess: float,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Answer MODEL, a program, a graph document, or - for standard input.

    Compiles and checks it, chooses a method and says why, and prints the posterior of
    every latent and of the return value. Exit code 3 where the answer cannot be
    trusted; the cautions say what to do.
    """
    if output is not None:
        check_folder_place(output, marker=ANSWER, own=OWN_FILES)
    named = load_any(model, data)
    made = Model.from_graph(named.graph)
    given = observations(observe)
    observed = made.observation(given.values, places=given.places)
    flow = None
    if artifact is not None:
        flow = load_posterior(artifact, made).proposal()
    with progress_bar(quiet=as_json) as progress:
        task = progress.add_task("inferring", total=1.0, note="")
        answer = infer(
            made,
            observed,
            method=method,
            flow=flow,
            budget=budget,
            num_particles=num_particles,
            target_ess=target_ess,
            seed=seed,
            on_progress=lambda share, note: progress.update(
                task, completed=share, note=note
            ),
        )
        progress.update(task, completed=1.0)
    plain = answer.to_json()
    if output is not None:
        with new_folder(output, marker=ANSWER, own=OWN_FILES) as folder:
            dump_document(named.document, folder / "graph.json")
            dump_names(named.names, named.document, folder / "graph.json")
            answer.fill(folder)
    if as_json:
        print_json(plain)
    else:
        print_table(inference_table(plain, named.title))
    if not answer.is_trusted:
        for caution in answer.cautions:
            click.echo(f"caution: {caution}", err=True)
        sys.exit(UNTRUSTED)

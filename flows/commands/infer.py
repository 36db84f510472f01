"""This file is `daphne-flows infer`: a program and its data become an answer."""

from functools import partial
from pathlib import Path

import click

from daphne_bridge.command_line import PATH, data_option, guarded, json_option, setting
from daphne_bridge.graph.document import dump_document, dump_names

from ..front.answer import ANSWER, OWN_FILES
from ..front.inference import METHODS, infer
from ..model.model import Model
from ..report.inference_table import inference_table
from ..storage.folders import check_folder_place, new_folder
from .inputs import load_posterior, observed_row
from .model_argument import load_any
from .options import MOST_TIME, SEED, Real, Whole, observe_option
from .output import leave_untrusted, print_figures, shown_progress

__all__ = ["infer_command"]


@click.command("infer")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="Folder to write.")
@observe_option
@data_option
@setting("--method", click.Choice(METHODS), "auto", "How; auto chooses and says why.")
@click.option("--artifact", type=PATH, help="Trained flow to draw from, if it is good.")
@setting("--budget", str, "10m", MOST_TIME)
@setting(
    "--num-particles",
    Whole(100, 10_000_000),
    10_000,
    "Draws of importance sampling and of exact answers; a tenth are the lines of"
    " each tempered island.",
)
@setting(
    "--target-ess",
    Real(0, min_open=True),
    1_000.0,
    "Effective sample size of the slowest latent that is enough.",
)
@setting("--seed", SEED, 0)
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
    observed = observed_row(made, observe)
    flow = None
    if artifact is not None:
        flow = load_posterior(artifact, made).proposal()
    with shown_progress("inferring", quiet=as_json) as show:
        answer = infer(
            made,
            observed,
            method=method,
            flow=flow,
            budget=budget,
            num_particles=num_particles,
            target_ess=target_ess,
            seed=seed,
            on_progress=show,
        )
    plain = answer.to_json()
    if output is not None:
        with new_folder(output, marker=ANSWER, own=OWN_FILES) as folder:
            dump_document(named.document, folder / "graph.json")
            dump_names(named.names, named.document, folder / "graph.json")
            answer.fill(folder)
    table = partial(
        inference_table, title="standard input" if str(model) == "-" else model.stem
    )
    print_figures(plain, table, as_json=as_json)
    if not answer.is_trusted:
        leave_untrusted(answer.cautions)

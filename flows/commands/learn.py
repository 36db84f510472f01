"""This file is `daphne-flows learn`: rows of data become the parameters they share."""

from pathlib import Path

import click

from daphne_bridge.command_line import PATH, guarded, json_option, setting

from ..flow.kinds import KINDS
from ..front.learn import learn
from ..front.learned import LEARNED_FILES, LEARNING
from ..front.learning_method import LEARNING_METHODS
from ..front.settings import AUTO
from ..model.model import Model
from ..report.learning_table import learning_table
from ..storage.folders import check_folder_place
from .model_argument import load_any
from .options import MOST_TIME, SEED
from .output import leave_untrusted, print_figures, shown_progress

__all__ = ["learn_command"]


@click.command("learn")
@click.argument("graph", type=PATH)
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="CSV or JSON file: values of the observed nodes, one run of GRAPH a row.",
)
@click.option(
    "--parameters",
    required=True,
    metavar="NAMES",
    help="Latents that all rows share, with commas between them; w is all of w[0], ...",
)
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write.")
@setting(
    "--method",
    click.Choice(LEARNING_METHODS),
    "auto",
    "How latents of a row are averaged over; auto is exact where that can be.",
)
@setting("--budget", str, "10m", MOST_TIME)
@setting(
    "--kind",
    click.Choice([AUTO, *KINDS]),
    AUTO,
    "Of the flow that rows' latents are drawn from.",
)
@click.option("--config", type=PATH, help="TOML file of settings of its training.")
@click.option(
    "--posterior", is_flag=True, help="Also draw particles of the parameters."
)
@setting("--seed", SEED, 0)
@json_option
@guarded
def learn_command(
    graph: Path,
    data: Path,
    parameters: str,
    output: Path,
    method: str,
    budget: str,
    kind: str,
    config: Path | None,
    seed: int,
    *,
    posterior: bool,
    as_json: bool,
) -> None:
    """Learn parameters of GRAPH, a document or a program, from rows of data.

    OUTPUT then holds learned.json, a graph document with the parameters as constants,
    and learning.json. Exit code 3 where they cannot be trusted; the cautions say why.
    """
    check_folder_place(output, marker=LEARNING, own=LEARNED_FILES)
    model = Model.from_graph(load_any(graph).graph)
    names = [name.strip() for name in parameters.split(",") if name.strip()]
    with shown_progress("learning", quiet=as_json) as show:
        learned = learn(
            model,
            data,
            names,
            method=method,
            budget=budget,
            seed=seed,
            kind=kind,
            config=config,
            posterior=posterior,
            on_progress=show,
        )
    learned.save(output)
    print_figures(learned.to_json(), learning_table, as_json=as_json)
    if not learned.is_trusted:
        leave_untrusted(learned.cautions)

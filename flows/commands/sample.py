"""This file is `daphne-flows sample`: data become weighted particles."""

import json
from pathlib import Path

import click

from daphne_bridge.command_line import guarded, print_json

from ..artifact import Artifact
from ..command_input import (
    PATH,
    json_option,
    load_graph,
    load_model,
    observations,
    print_table,
    progress_bar,
)
from ..flow_proposal import FlowProposal
from ..folders import check_folder_place, write_file
from ..inference.diagnostics import summarize
from ..inference.importance import importance_sample
from ..inference.particle_file import save_particles
from ..inference.particles import Particles
from ..inference.proposal import PriorProposal, Proposal
from ..tables import posterior_table

__all__ = ["sample"]


@click.command()
@click.argument("artifact", type=PATH)
@click.argument("graph", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write.")
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
@json_option
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
    checked = load_graph(graph)
    model = load_model(checked)
    values = observations(observe)
    data = model.observation(values)
    loaded = Artifact.load(artifact)
    flow = loaded.flow_for(checked, model.layout)
    check_folder_place(output, marker="summary.json")
    proposal: Proposal = (
        PriorProposal(model) if kind == "prior" else FlowProposal(flow, model)
    )
    parts = []
    with progress_bar(quiet=as_json) as progress:
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
        print_table(posterior_table(summary))

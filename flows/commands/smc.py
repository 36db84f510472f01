"""This file is `daphne-flows smc`: data become particles in many small steps."""

from pathlib import Path

import click

from daphne_bridge.command_line import guarded, print_json

from ..artifact import Artifact
from ..command_input import (
    MOST_HELD,
    OPEN_SHARE,
    Real,
    Whole,
    load_graph,
    load_model,
    observations,
    print_table,
    progress_bar,
)
from ..exchange import (
    posterior_json,
    predictive_cautions,
    save_posterior,
    save_summary,
)
from ..flow_proposal import FlowProposal, proposal_of
from ..folders import check_folder_place, new_folder
from ..inference.annealing import AnnealingReport, annealed_smc, move_cautions
from ..inference.moves import Hamiltonian, Move, RandomWalk
from ..inference.resampling import SCHEMES
from ..inference.smc import ObserveSequence, SmcResult, sequential_smc, summarize_smc
from ..inference.spaces import BaseSpace, FreeSpace, Space
from ..tables import posterior_table
from .particle_options import OWN_FILES, SUMMARY, particle_options

__all__ = ["smc"]


@click.command()
@particle_options
@click.option(
    "--method",
    type=click.Choice(["annealed", "sequential"]),
    default="annealed",
    show_default=True,
    help="Temper the weights, or let the observes enter one by one.",
)
@click.option(
    "--num-particles", type=Whole(2, MOST_HELD), default=1000, show_default=True
)
@click.option(
    "--scheme",
    type=click.Choice(sorted(SCHEMES)),
    default="systematic",
    show_default=True,
    help="How ancestors are drawn.",
)
@click.option(
    "--ess-threshold",
    type=Real(0, 1),
    default=0.5,
    show_default=True,
    help="Resample when ESS / N falls below.",
)
@click.option(
    "--move",
    type=click.Choice(["hmc", "random-walk"]),
    default="hmc",
    show_default=True,
    help="How annealed particles move.",
)
@click.option(
    "--most-moves",
    type=Whole(0, 10_000),
    default=25,
    show_default=True,
    help="Largest number of moves at each temperature.",
)
@click.option(
    "--correlation",
    type=Real(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Moves end when particles are correlated no more than this with where they"
    " were.",
)
@click.option(
    "--leaps",
    type=Whole(1, 10_000),
    default=16,
    show_default=True,
    help="Leapfrog steps of one Hamiltonian move.",
)
@click.option(
    "--step",
    type=OPEN_SHARE,
    default=0.9,
    show_default=True,
    help="Share of the conditional ESS that each temperature keeps.",
)
@guarded
def smc(
    artifact: Path,
    graph: Path,
    output: Path,
    observe: tuple[str, ...],
    method: str,
    kind: str,
    mixture_weight: float,
    num_particles: int,
    seed: int,
    scheme: str,
    ess_threshold: float,
    move: str,
    most_moves: int,
    correlation: float,
    leaps: int,
    step: float,
    *,
    as_json: bool,
) -> None:
    """Carry particles to the posterior given the data of GRAPH, step by step.

    It answers where importance sampling cannot: data far from all that the flow was
    trained on. From the flow, annealed particles move in its base space; from another
    proposal, on the real line. OUTPUT holds what `sample` writes.
    """
    checked = load_graph(graph)
    model = load_model(checked)
    given = observations(observe)
    data = model.observation(given.values, places=given.places)
    check_folder_place(output, marker=SUMMARY, own=OWN_FILES)
    flow = Artifact.load(artifact).flow_for(checked, model.layout)
    proposal = proposal_of(kind, flow, model, mixture_weight=mixture_weight)
    result: SmcResult | None = None
    reports: list[AnnealingReport] = []
    with (
        new_folder(output, marker=SUMMARY, own=OWN_FILES) as folder,
        progress_bar(quiet=as_json) as progress,
    ):
        task = progress.add_task("smc", total=1.0, note="")
        if method == "sequential":
            for report in sequential_smc(
                ObserveSequence(model, proposal, data),
                num_particles,
                seed=seed,
                ess_threshold=ess_threshold,
                scheme=scheme,
            ):
                result = report.result
                note = f"ESS {report.ess:.0f}"
                progress.update(task, completed=report.progress, note=note)
        else:
            space: Space = (
                BaseSpace(model, proposal.differentiable(data), data)
                if isinstance(proposal, FlowProposal)
                else FreeSpace(model, proposal, data)
            )
            kernel: Move = Hamiltonian(leaps) if move == "hmc" else RandomWalk()
            for at in annealed_smc(
                space,
                num_particles,
                seed=seed,
                move=kernel,
                most_moves=most_moves,
                correlation=correlation,
                cess_fraction=step,
                ess_threshold=ess_threshold,
                scheme=scheme,
            ):
                result = at.result
                reports.append(at)
                note = f"temperature {at.temperature:.3g}, {at.acceptance:.0%} accepted"
                progress.update(task, completed=at.temperature, note=note)
        if result is None:
            raise AssertionError("the last report of a run carries its result")
        summary = posterior_json(
            summarize_smc(result),
            model,
            data,
            graph=graph,
            artifact=artifact,
            proposal=f"{kind}, {method} SMC",
            seed=seed,
            cautions=(
                *predictive_cautions(model, data, seed),
                *move_cautions(reports),
            ),
        )
        save_posterior(folder, result.particles, summary, model=model)
        save_summary(folder / SUMMARY, summary)
    if as_json:
        print_json(summary)
    else:
        print_table(posterior_table(summary))

"""This file is `daphne-flows smc`: data become particles in many small steps."""

import sys
from pathlib import Path

import click

from daphne_bridge.command_line import guarded, print_json

from ..errors import FlowsError, Problem
from ..front.sequential import METHODS, smc
from ..inference.resampling import SCHEMES
from ..inference.smc.annealing import AnnealingReport
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.moves import Hamiltonian, RandomWalk
from ..inference.smc.observes import SmcReport
from ..inference.smc.result import summarize_smc
from ..report.tables import posterior_table
from ..storage.export import (
    posterior_json,
    predictive_cautions,
    save_posterior,
    save_summary,
)
from ..storage.folders import check_folder_place, new_folder
from .inputs import (
    MOST_HELD,
    OPEN_SHARE,
    UNTRUSTED,
    Real,
    Whole,
    observations,
    print_table,
    progress_bar,
)
from .particle_options import (
    OWN_FILES,
    SUMMARY,
    load_model,
    load_source,
    particle_options,
)

__all__ = ["smc_command"]


@click.command("smc")
@particle_options
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="annealed",
    show_default=True,
    help="Temper the weights, or draw and weigh latent by latent.",
)
@click.option(
    "--num-particles",
    type=Whole(2, MOST_HELD),
    default=1000,
    show_default=True,
    help="Of each run; annealed, each becomes as many as it is moved.",
)
@click.option(
    "--runs",
    "num_runs",
    type=Whole(1, 10_000),
    default=1,
    show_default=True,
    help="Independent runs of that many particles. From 20 on, standard errors are"
    " those of their spread.",
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
def smc_command(
    artifact: Path | None,
    graph: Path,
    output: Path,
    observe: tuple[str, ...],
    data: Path | None,
    method: str,
    kind: str,
    mixture_weight: float,
    num_particles: int,
    num_runs: int,
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
    """Carry particles to the posterior given the data of MODEL, step by step.

    MODEL is a program, a graph document, or - for standard input.

    It answers where importance sampling cannot: data far from all that the flow was
    trained on (annealed), or so many latents that small errors of each add up
    (sequential). From the flow, annealed particles move in its base space where its
    draws carry weight, else on the real line, as from another proposal. OUTPUT holds
    what `sample` writes. Exit code 3 if its figures cannot be trusted; the cautions say
    what to do.
    """
    if num_runs * num_particles > MOST_HELD:
        raise FlowsError(
            Problem(
                "--runs",
                "more particles in all than are held in memory",
                f"at most {MOST_HELD}",
                f"{num_runs} runs of {num_particles}",
            )
        )
    model = load_model(artifact, graph, data, kind)
    given = observations(observe)
    observed = model.observation(given.values, places=given.places)
    check_folder_place(output, marker=SUMMARY, own=OWN_FILES)
    source = load_source(artifact, model)
    config = AnnealingConfig(
        move=Hamiltonian(leaps) if move == "hmc" else RandomWalk(),
        most_moves=most_moves,
        correlation=correlation,
        cess_fraction=step,
        ess_threshold=ess_threshold,
        scheme=scheme,
    )
    with (
        new_folder(output, marker=SUMMARY, own=OWN_FILES) as folder,
        progress_bar(quiet=as_json) as progress,
    ):
        task = progress.add_task("smc", total=float(num_runs), note="")

        def show(run: int, report: SmcReport | AnnealingReport) -> None:
            share, note = _progress(report)
            progress.update(task, completed=run + share, note=note)

        result, doubts, notes = smc(
            source,
            observed,
            num_particles,
            num_runs=num_runs,
            seed=seed,
            method=method,
            proposal=kind,
            mixture_weight=mixture_weight,
            config=config,
            on_report=show,
        )
        words = f"{kind}, {method} SMC" + (f" in {num_runs} runs" * (num_runs > 1))
        summary = posterior_json(
            summarize_smc(result),
            model,
            observed,
            graph=graph,
            artifact=artifact,
            proposal=words,
            seed=seed,
            doubts=doubts,
            notes=(*predictive_cautions(model, observed, seed), *notes),
        )
        save_posterior(folder, result.particles, summary, model=model)
        save_summary(folder / SUMMARY, summary)
    if as_json:
        print_json(summary)
    else:
        print_table(posterior_table(summary))
    if not summary["ok"]:
        sys.exit(UNTRUSTED)


def _progress(report: SmcReport | AnnealingReport) -> tuple[float, str]:
    """Return how far a run is, and what it looks like."""
    if isinstance(report, SmcReport):
        return report.progress, f"ESS {report.ess:.0f}"
    words = f"temperature {report.temperature:.3g}, {report.acceptance:.0%} accepted"
    return report.temperature, words

"""This file is `daphne-flows smc`: data become particles in many small steps."""

from pathlib import Path

import click

from daphne_bridge.command_line import guarded, setting

from ..errors import FlowsError
from ..front.doubts import data_cautions
from ..front.particle_figures import with_figures
from ..front.sequential import METHODS, smc
from ..inference.resampling import SCHEMES
from ..inference.smc.annealing import AnnealingReport
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.moves import Hamiltonian, RandomWalk
from ..inference.smc.observes import SmcReport
from ..inference.smc.result import summarize_smc
from ..storage.export import posterior_json, save_posterior, save_summary
from . import particle_options as given
from .inputs import observed_row
from .options import MOST_HELD, OPEN_SHARE, Real, Whole

__all__ = ["smc_command"]


@click.command("smc")
@given.particle_options
@setting(
    "--method",
    click.Choice(METHODS),
    "annealed",
    "Temper the weights, or draw and weigh latent by latent.",
)
@setting(
    "--num-particles",
    Whole(2, MOST_HELD),
    1000,
    "Of each run; annealed, each becomes as many as it is moved.",
)
@setting(
    "--runs",
    Whole(1, 10_000),
    1,
    "Independent runs of that many particles. From 20 on, standard errors are"
    " those of their spread.",
)
@setting(
    "--scheme", click.Choice(sorted(SCHEMES)), "systematic", "How ancestors are drawn."
)
@setting("--ess-threshold", Real(0, 1), 0.5, "Resample when ESS / N falls below.")
@setting(
    "--move",
    click.Choice(["hmc", "random-walk"]),
    "hmc",
    "How annealed particles move.",
)
@setting(
    "--most-moves", Whole(0, 10_000), 25, "Largest number of moves at each temperature."
)
@setting(
    "--correlation",
    Real(0, 1, max_open=True),
    0.2,
    "Moves end when particles are correlated no more than this with where they were.",
)
@setting("--leaps", Whole(1, 10_000), 16, "Leapfrog steps of one Hamiltonian move.")
@setting(
    "--step",
    OPEN_SHARE,
    0.9,
    "Share of the conditional ESS that each temperature keeps.",
)
@guarded
def smc_command(
    artifact: Path | None,
    place: Path,
    output: Path,
    observe: tuple[str, ...],
    data: Path | None,
    method: str,
    kind: str,
    mixture_weight: float,
    num_particles: int,
    runs: int,
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
    if runs * num_particles > MOST_HELD:
        raise FlowsError.at(
            "--runs",
            "more particles in all than are held in memory",
            f"at most {MOST_HELD}",
            f"{runs} runs of {num_particles}",
        )
    model = given.load_model(artifact, place, data, kind)
    observed = observed_row(model, observe)
    given.check_output(output)
    source = given.load_source(artifact, model)
    config = AnnealingConfig(
        move=Hamiltonian(leaps) if move == "hmc" else RandomWalk(),
        most_moves=most_moves,
        correlation=correlation,
        cess_fraction=step,
        ess_threshold=ess_threshold,
        scheme=scheme,
    )
    with given.new_output(output, quiet=as_json) as (folder, progress):
        task = progress.add_task("smc", total=float(runs), note="")

        def show(run: int, report: SmcReport | AnnealingReport) -> None:
            share, note = _progress(report)
            progress.update(task, completed=run + share, note=note)

        result, doubts, notes = smc(
            source,
            observed,
            num_particles,
            num_runs=runs,
            seed=seed,
            method=method,
            proposal=kind,
            mixture_weight=mixture_weight,
            config=config,
            on_report=show,
        )
        of_data = data_cautions(model, observed, result.particles.totals, seed)
        words = f"{kind}, {method} SMC" + (f" in {runs} runs" * (runs > 1))
        summary = posterior_json(
            summarize_smc(result),
            model,
            observed,
            graph=place,
            artifact=artifact,
            proposal=words,
            seed=seed,
            doubts=doubts,
            notes=(*of_data, *notes),
        )
        summary = with_figures(summary, model, result.particles, observed, result)
        save_posterior(folder, result.particles, summary, model=model)
        save_summary(folder / given.SUMMARY, summary)
    given.print_summaries(summary, [summary], as_json=as_json)


def _progress(report: SmcReport | AnnealingReport) -> tuple[float, str]:
    """Return how far a run is, and what it looks like."""
    if isinstance(report, SmcReport):
        return report.progress, f"ESS {report.ess:.0f}"
    words = f"temperature {report.temperature:.3g}, {report.acceptance:.0%} accepted"
    return report.temperature, words

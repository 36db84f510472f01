"""This file is `daphne-flows sample`: data become weighted particles."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from daphne_bridge.command_line import PATH, guarded, setting

from ..errors import FlowsError
from ..front.doubts import data_cautions, without_meaning
from ..front.particle_figures import with_figures
from ..front.sampling import num_without_meaning
from ..front.source import Source
from ..inference.cautions import Caution
from ..inference.cluster import check_cluster
from ..inference.importance import ImportanceReport
from ..inference.particle_store import check_room
from ..inference.particles import Particles
from ..model.capabilities import listed
from ..storage.export import (
    FORMATS,
    check_formats,
    posterior_json,
    save_posterior,
    save_summary,
)
from ..storage.observations import load_observations
from . import particle_options as given
from .inputs import observations
from .options import COUNT, Real, Whole

__all__ = ["sample_command"]

_NO_WEIGHTS = Caution(
    "these draws have no weights",
    "they are those of the flow, however well it is trained",
    "Compare what they predict with the data",
)

_MOST_COUNTS = 2
"""Numbers of data sets that are said beside the largest."""

_FIGURES_OF_WEIGHTS = (
    "log_evidence",
    "log_evidence_standard_error",
    "ess",
    "ess_fraction",
    "k_hat",
)


@click.command("sample")
@given.particle_options
@click.option(
    "--observations",
    "data_sets",
    type=PATH,
    help="CSV or JSON file with one data set in each row; a node that it leaves out "
    "keeps the program's data, which is said.",
)
@setting(
    "--num-particles", COUNT, 10_000, "For each data set; with --target-ess the most."
)
@click.option(
    "--target-ess",
    type=Real(0, min_open=True),
    help="Stop drawing when the effective sample size is reached.",
)
@click.option(
    "--draws",
    "num_draws",
    type=COUNT,
    help="Also write that many equally weighted draws.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    help="Also write the particles in this format; may be repeated.",
)
@setting("--workers", Whole(1, 1024), 1, "Processes that draw.")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Dask scheduler, tcp://host:port, whose workers draw instead.",
)
@click.option(
    "--unweighted",
    is_flag=True,
    help="The flow's own draws, for latents that have no density.",
)
@guarded
def sample_command(
    artifact: Path | None,
    place: Path,
    output: Path,
    observe: tuple[str, ...],
    data: Path | None,
    data_sets: Path | None,
    num_particles: int,
    target_ess: float | None,
    seed: int,
    kind: str,
    mixture_weight: float,
    num_draws: int | None,
    formats: tuple[str, ...],
    workers: int,
    cluster: str | None,
    *,
    unweighted: bool,
    as_json: bool,
) -> None:
    """Draw weighted particles of the posterior given the data of MODEL.

    MODEL is a program, a graph document, or - for standard input.

    OUTPUT/particles.npz holds values by name and log weights, OUTPUT/summary.json what
    they say. With --observations the files of row 1 are OUTPUT/particles-1.npz and so
    on, and the summary holds one entry for each row. Exit code 3 if figures of a row
    cannot be trusted; the cautions say what to do.
    """
    check_formats(formats)
    if unweighted:
        refused = {
            f"--proposal {kind}": kind != "flow",
            "--target-ess": target_ess is not None,
            "--draws": num_draws is not None,
            "--format netcdf": "netcdf" in formats,
            "--workers": workers > 1,
            "--cluster": cluster is not None,
        }
        _refuse_beside("--unweighted", refused)
    if cluster is not None:
        check_cluster()
        _refuse_beside("--cluster", {"--workers": workers > 1})
    if observe:
        _refuse_beside("--observe", {"--observations": data_sets is not None})
    model = given.load_model(artifact, place, data, kind)
    rows = (
        [observations(observe)] if data_sets is None else load_observations(data_sets)
    )
    observed_rows = [model.observation(row.values, places=row.places) for row in rows]
    given.check_output(output)
    width, beside = model.layout.latent_dim, output.parent
    check_room(num_particles, width, beside, option="--num-particles")
    check_room(num_draws or 0, width, beside, option="--draws", in_memory=True)
    kept = [model.layout.left_out(row.values) for row in rows]
    if data_sets is not None and any(kept):
        click.echo(f"{data_sets}: {_left_out(kept)}", err=True)
    source = given.load_source(artifact, model, weighted=not unweighted)
    summaries: list[dict[str, Any]] = []
    bad = [0] * len(observed_rows)
    with given.new_output(output, quiet=as_json) as (folder, progress):
        task = progress.add_task(
            "sampling", total=num_particles * len(observed_rows), note=""
        )
        for number, observed in enumerate(observed_rows):

            def show(
                report: ImportanceReport,
                *,
                before: int = number,
                observed: Tensor = observed,
            ) -> None:
                bad[before] += num_without_meaning(
                    source.target, report.particles, observed
                )
                done = before * num_particles + report.totals.num_particles
                note = "" if unweighted else f"ESS/N {report.totals.ess_fraction:.3f}"
                progress.update(task, completed=done, note=note)

            particles = source.sample(
                observed,
                num_particles,
                seed=seed + number,
                proposal=kind,
                mixture_weight=mixture_weight,
                target_ess=target_ess,
                num_workers=workers,
                cluster=cluster,
                weighted=not unweighted,
                scratch=folder,
                on_report=show,
            )
            summary = _said(
                source,
                particles,
                observed,
                bad[number],
                unweighted=unweighted,
                graph=place,
                artifact=artifact,
                proposal=kind,
                seed=seed + number,
            )
            if data_sets is not None:
                summary["kept"] = list(kept[number])
            name = "particles" if data_sets is None else f"particles-{number + 1}"
            save_posterior(
                folder, particles, summary, model=model, formats=formats, name=name
            )
            if num_draws is not None:
                generator = torch.Generator().manual_seed(seed)
                draws = particles.resampled(num_draws, generator=generator)
                draws.particles.save(folder / f"{name}-draws.npz")
                summary["num_draws"] = num_draws
                summary["num_distinct_draws"] = draws.num_distinct
            summaries.append(summary)
        whole = summaries[0]
        if data_sets is not None:
            ok = all(summary["ok"] for summary in summaries)
            whole = {"ok": ok, "data_sets": summaries}
        save_summary(folder / given.SUMMARY, whole)
    given.print_summaries(whole, summaries, as_json=as_json)


def _left_out(kept: Sequence[Sequence[str]]) -> str:
    """Return which nodes data sets leave out, of how many, and what that means."""
    by_count: dict[int, list[str]] = {}
    for name, count in Counter(chain.from_iterable(kept)).most_common():
        by_count.setdefault(count, []).append(name)
    (most, names), *fewer = by_count.items()
    parts = [f"{listed(names)} left out of {most} of {len(kept)} data sets"]
    parts += [f"{listed(names)} of {count}" for count, names in fewer[:_MOST_COUNTS]]
    if others := [name for _, names in fewer[_MOST_COUNTS:] for name in names]:
        parts.append(f"{listed(others)} of fewer")
    return f"{', '.join(parts)}: there the program's own data count"


def _said(
    source: Source,
    particles: Particles,
    observed: Tensor,
    num_bad: int,
    *,
    unweighted: bool,
    seed: int,
    **origin: Any,
) -> dict[str, Any]:
    """Return what the particles of a row say, `num_bad` of them without meaning."""
    model = source.model
    notes = [_NO_WEIGHTS] if unweighted else []
    notes += without_meaning(source.target, num_bad, particles.num_particles)
    if not unweighted:
        notes += source.cautions(observed)
        notes += data_cautions(model, observed, particles.totals, seed)
    summary = posterior_json(
        particles.summary(), model, observed, seed=seed, notes=tuple(notes), **origin
    )
    summary = with_figures(summary, model, particles, observed)
    return summary | dict.fromkeys(_FIGURES_OF_WEIGHTS if unweighted else ())


def _refuse_beside(option: str, others: Mapping[str, bool]) -> None:
    """Raise if one of the other options is there that cannot stand beside one."""
    for other, is_there in others.items():
        if is_there:
            raise FlowsError.at(option, f"stands beside {other}", "one of both")

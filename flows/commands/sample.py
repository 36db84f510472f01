"""This file is `daphne-flows sample`: data become weighted particles."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.command_line import guarded, print_json
from daphne_bridge.graph.document import (
    NodeNames,
    format_document,
    load_document,
    parse_document,
)
from daphne_bridge.graph.graph import Graph

from ..errors import FlowsError, Problem
from ..inference.cluster import check_cluster, cluster_importance_sample
from ..inference.diagnostics import Caution, summarize
from ..inference.importance import (
    ImportanceReport,
    importance_sample,
    unweighted_sample,
)
from ..inference.parallel import Sampler, parallel_importance_sample
from ..inference.particle_file import save_particles
from ..inference.particle_store import ParticleStore, check_room
from ..inference.particles import Particles, latent_columns
from ..inference.resampling import resampled_draws
from ..model.model import Model
from ..proposals.flow import proposal_of
from ..report.tables import posterior_table
from ..storage.artifact import Artifact
from ..storage.export import (
    FORMATS,
    check_formats,
    posterior_json,
    predictive_cautions,
    save_posterior,
    save_summary,
)
from ..storage.folders import check_folder_place, new_folder
from ..storage.observations import load_observations
from .inputs import (
    COUNT,
    PATH,
    Real,
    Whole,
    load_graph,
    load_model,
    observations,
    print_table,
    progress_bar,
    ready_kernel,
)
from .particle_options import OWN_FILES, SUMMARY, particle_options

__all__ = ["sample_command"]

_NO_WEIGHTS = Caution(
    "these draws have no weights",
    "they are those of the flow, however well it is trained",
    "Compare what they predict with the data",
)

_FIGURES_OF_WEIGHTS = (
    "log_evidence",
    "log_evidence_standard_error",
    "ess",
    "ess_fraction",
    "k_hat",
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides the draws of a data set; it travels to workers.

    The document is text and its nodes' labels: a graph of deep expressions does not
    travel.
    """

    artifact: Artifact
    document: str
    labels: Mapping[str, str]
    kind: str
    mixture_weight: float
    num_particles: int
    target_ess: float | None
    num_workers: int
    cluster: str | None
    weighted: bool


@click.command("sample")
@particle_options
@click.option(
    "--observations",
    "data_sets",
    type=PATH,
    help="CSV or JSON file with one data set in each row.",
)
@click.option(
    "--num-particles",
    type=COUNT,
    default=10_000,
    show_default=True,
    help="For each data set; with --target-ess the most.",
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
@click.option(
    "--workers",
    "num_workers",
    type=Whole(1, 1024),
    default=1,
    show_default=True,
    help="Processes that draw.",
)
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
    artifact: Path,
    graph: Path,
    output: Path,
    observe: tuple[str, ...],
    data_sets: Path | None,
    num_particles: int,
    target_ess: float | None,
    seed: int,
    kind: str,
    mixture_weight: float,
    num_draws: int | None,
    formats: tuple[str, ...],
    num_workers: int,
    cluster: str | None,
    *,
    unweighted: bool,
    as_json: bool,
) -> None:
    """Draw weighted particles of the posterior given the data of GRAPH.

    OUTPUT/particles.npz holds values by name and log weights, OUTPUT/summary.json what
    they say. With --observations the files of row 1 are OUTPUT/particles-1.npz and so
    on, and the summary holds one entry for each row.
    """
    checked = load_graph(graph)
    model = load_model(checked)
    check_formats(formats)
    if unweighted:
        _refuse_beside_unweighted(
            kind, target_ess, num_draws, formats, num_workers, cluster
        )
    if cluster is not None:
        check_cluster()
        if num_workers > 1:
            raise FlowsError(
                Problem("--cluster", "stands beside --workers", "one of both")
            )
    if observe and data_sets is not None:
        raise FlowsError(
            Problem("--observe", "stands beside --observations", "one of both")
        )
    rows = (
        [observations(observe)] if data_sets is None else load_observations(data_sets)
    )
    data = [model.observation(row.values, places=row.places) for row in rows]
    check_folder_place(output, marker=SUMMARY, own=OWN_FILES)
    for option, num in (
        ("--num-particles", num_particles),
        ("--draws", num_draws or 0),
    ):
        check_room(
            num,
            model.layout.latent_dim,
            output.parent,
            option=option,
            in_memory=option == "--draws",
        )
    loaded = Artifact.load(artifact)
    if kind != "prior":
        ready_kernel()
    loaded.flow_for(checked, model.layout, weighted=not unweighted)
    plan = _Plan(
        artifact=loaded,
        document=format_document(load_document(graph)),
        labels=checked.labels,
        kind=kind,
        mixture_weight=mixture_weight,
        num_particles=num_particles,
        target_ess=target_ess,
        num_workers=num_workers,
        cluster=cluster,
        weighted=not unweighted,
    )
    summaries: list[dict[str, Any]] = []
    with (
        new_folder(output, marker=SUMMARY, own=OWN_FILES) as folder,
        progress_bar(quiet=as_json) as progress,
    ):
        task = progress.add_task("sampling", total=num_particles * len(data), note="")
        for number, observed in enumerate(data):

            def show(report: ImportanceReport, *, before: int = number) -> None:
                done = before * num_particles + report.totals.num_particles
                note = (
                    f"ESS/N {report.totals.ess_fraction:.3f}" if plan.weighted else ""
                )
                progress.update(task, completed=done, note=note)

            own_seed = seed + number
            particles = _drawn(plan, model, observed, own_seed, folder, show)
            summary = posterior_json(
                summarize(particles),
                model,
                observed,
                graph=graph,
                artifact=artifact,
                proposal=kind,
                seed=own_seed,
                cautions=(
                    predictive_cautions(model, observed, own_seed)
                    if plan.weighted
                    else (_NO_WEIGHTS,)
                ),
            )
            if unweighted:
                summary |= dict.fromkeys(_FIGURES_OF_WEIGHTS)
            name = "particles" if data_sets is None else f"particles-{number + 1}"
            save_posterior(
                folder, particles, summary, model=model, formats=formats, name=name
            )
            if num_draws is not None:
                _save_draws(folder / f"{name}-draws.npz", particles, num_draws, seed)
            summaries.append(summary)
        whole = (
            summaries[0] if data_sets is None else {"ok": True, "data_sets": summaries}
        )
        save_summary(folder / SUMMARY, whole)
    if as_json:
        print_json(whole)
    else:
        for summary in summaries:
            print_table(posterior_table(summary))


def _refuse_beside_unweighted(
    kind: str,
    target_ess: float | None,
    num_draws: int | None,
    formats: tuple[str, ...],
    num_workers: int,
    cluster: str | None,
) -> None:
    """Raise if an option stands beside --unweighted that needs weights or a prior."""
    for option, is_there in (
        (f"--proposal {kind}", kind != "flow"),
        ("--target-ess", target_ess is not None),
        ("--draws", num_draws is not None),
        ("--format netcdf", "netcdf" in formats),
        ("--workers", num_workers > 1),
        ("--cluster", cluster is not None),
    ):
        if is_there:
            raise FlowsError(
                Problem("--unweighted", f"stands beside {option}", "one of both")
            )


def _drawn(
    plan: _Plan,
    model: Model,
    observed: Float[Tensor, " observed"],
    seed: int,
    folder: Path,
    show: Callable[[ImportanceReport], None],
) -> Particles:
    """Return the particles of one data set."""
    store = ParticleStore(plan.num_particles, latent_columns(model.layout), folder)
    for report in _reports(plan, model, observed, seed):
        store.add(report.particles)
        show(report)
        if plan.target_ess is not None and report.totals.ess >= plan.target_ess:
            break
    return store.particles()


def _reports(
    plan: _Plan, model: Model, observed: Float[Tensor, " observed"], seed: int
) -> Iterator[ImportanceReport]:
    make = partial(_sampler, plan, observed.tolist())
    if plan.cluster is not None:
        return cluster_importance_sample(
            make, model.layout, plan.num_particles, seed=seed, address=plan.cluster
        )
    if plan.num_workers == 1:
        sampler = make()
        if not plan.weighted:
            return unweighted_sample(
                sampler.proposal,
                model.layout,
                sampler.observed,
                plan.num_particles,
                seed=seed,
            )
        return importance_sample(
            sampler.target,
            sampler.proposal,
            sampler.observed,
            plan.num_particles,
            seed=seed,
        )
    return parallel_importance_sample(
        make, model.layout, plan.num_particles, seed=seed, num_workers=plan.num_workers
    )


def _sampler(plan: _Plan, observed: list[float]) -> Sampler:
    """Return what draws, made anew from the plan."""
    document = parse_document(plan.document)
    graph = Graph.from_document(document, NodeNames(labels=plan.labels))
    model = load_model(graph)
    flow = plan.artifact.flow_for(graph, model.layout, weighted=plan.weighted)
    proposal = proposal_of(plan.kind, flow, model, mixture_weight=plan.mixture_weight)
    data = torch.tensor(observed, dtype=model.dtype, device=model.device)
    return Sampler(model, proposal, data)


def _save_draws(path: Path, particles: Particles, num_draws: int, seed: int) -> None:
    """Write equally weighted draws in the format of particles, log weights 0."""
    generator = torch.Generator().manual_seed(seed)
    latents = resampled_draws(particles, num_draws, generator=generator)
    weights = torch.zeros(num_draws, dtype=torch.float64)
    save_particles(Particles(latents, weights, particles.columns), path)

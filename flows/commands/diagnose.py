"""This file is `daphne-flows diagnose`: it finds out where a flow is wrong."""

from importlib.util import find_spec
from pathlib import Path

import click

from daphne_bridge.command_line import PATH, data_option, guarded, json_option, setting

from ..inference.importance import batch_generator
from ..measurement.diagnosis import Diagnosis, DiagnosisConfig, diagnose
from ..measurement.predictive import posterior_predictive
from ..report.particle_plots import predictive_plot
from ..report.plots import (
    coverage_plot,
    ks_plot,
    ranks_plot,
    values_plot,
    weakness_plot,
)
from ..report.tables import diagnosis_table
from ..storage.folders import check_folder_place, write_folder
from ..storage.json_values import json_bytes
from .inputs import load_model, load_posterior, observed_row
from .options import MOST_HELD, SEED, Whole, observe_option
from .output import print_figures, shown_progress

__all__ = ["diagnose_command"]

_PREDICTIVE_DRAWS = 10_000


@click.command("diagnose")
@click.argument("artifact", type=PATH)
@click.argument("place", metavar="MODEL", type=PATH)
@data_option
@click.option("-o", "--output", type=PATH, required=True, help="Folder to write.")
@setting("--num-data-sets", Whole(2, MOST_HELD), 1000)
@setting("--num-particles", Whole(100, MOST_HELD), 100)
@observe_option
@setting("--seed", SEED, 1)
@json_option
@guarded
def diagnose_command(
    artifact: Path,
    place: Path,
    data: Path | None,
    output: Path,
    num_data_sets: int,
    num_particles: int,
    observe: tuple[str, ...],
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Diagnose the flow of ARTIFACT over data that MODEL draws.

    OUTPUT/diagnosis.json holds ESS and k-hat of every data set, calibration ranks of
    the flow's draws and of the weighted ones, coverage, KS per marginal, what each
    node's conditional costs (where no latent is discrete), and the posterior predictive
    given the data of MODEL; beside it stand pictures, if matplotlib is installed.
    """
    model = load_model(place, data)
    check_folder_place(output, marker="diagnosis.json")
    observed = observed_row(model, observe)
    posterior = load_posterior(artifact, model, amortised=True)
    config = DiagnosisConfig(num_data_sets, num_particles, seed)
    result: Diagnosis | None = None
    with shown_progress("diagnosing", quiet=as_json) as show:
        for report in diagnose(posterior.target, posterior.flow, config):
            show(report.fraction, "")
            result = report.result
    if result is None:
        raise AssertionError("a diagnosis ends with its result")
    particles = posterior.sample(observed, num_particles=_PREDICTIVE_DRAWS, seed=seed)
    has_weight = particles.totals.ess > 0.0
    predictive = (
        posterior_predictive(
            model,
            particles,
            observed,
            _PREDICTIVE_DRAWS,
            generator=batch_generator(seed, _PREDICTIVE_DRAWS),
        ).to_json()
        if has_weight
        else None
    )
    plain = {
        "ok": True,
        "model": model.graph.digest,
        **result.to_json(),
        "predictive": predictive,
    }
    files = {"diagnosis.json": json_bytes(plain, "diagnosis.json")}
    if find_spec("matplotlib") is not None:
        files |= {
            "ranks.svg": ranks_plot(plain).encode(),
            "weighted-ranks.svg": ranks_plot(plain, of="weighted_ranks").encode(),
            "marginals.svg": ks_plot(plain).encode(),
            "coverage.svg": coverage_plot(plain).encode(),
            "ess.svg": values_plot(plain["ess_fractions"], "ESS / N").encode(),
            "k-hat.svg": values_plot(plain["k_hats"], "Pareto k-hat").encode(),
        }
        if result.nodes:
            files["weakness.svg"] = weakness_plot(plain).encode()
        if predictive is not None:
            files["predictive.svg"] = predictive_plot(predictive).encode()
    write_folder(output, files, marker="diagnosis.json")
    print_figures(plain, diagnosis_table, as_json=as_json)

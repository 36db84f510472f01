"""This file prepares what a page says of the posterior of one data set."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..inference.particles import Particles
from ..measurement.predictive import posterior_predictive
from .finished_run import FinishedRun
from .picture import Picture
from .plots import marginals_plot, pairs_plot, predictive_plot, weights_plot
from .words import evidence_in_words, number

__all__ = ["posterior_section"]

_MOST_NUMBERS = 80
_MOST_PLOTTED = 50_000
_PREDICTIVE_DRAWS = 5000
_PRIOR_DRAWS = 5000


def posterior_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the figures and pictures, None without particles of one data set."""
    summary = run.json("particles/summary.json")
    if summary is None or "data_sets" in summary:
        return None
    keys = ("sd", "quantile_05", "quantile_95")
    section = {
        "cautions": [
            (c["what"], c["meaning"], c["remedy"]) for c in summary["cautions"]
        ],
        "latents": [
            (
                latent["label"],
                number(latent["mean"], 5),
                number(latent["mean_standard_error"], 2),
                *(number(latent[key]) for key in keys),
            )
            for latent in summary["latents"]
        ],
        "figures": [
            ("log evidence", evidence_in_words(summary)),
            ("ESS / N", number(summary["ess_fraction"])),
            ("particles", f"{summary['num_particles']} from the {summary['proposal']}"),
            ("Pareto k-hat", number(summary["k_hat"], 3)),
        ],
        "given": ", ".join(
            f"{k} = {number(v)}" for k, v in summary["observed"].items()
        ),
    }
    if summary["latents"]:
        particles = Particles.load(run.path / "particles" / "particles.npz")
        section |= _pictures(run, particles)
        section |= _predictive(run, particles, summary["observed"])
    return section


def _pictures(run: FinishedRun, particles: Particles) -> dict[str, Any]:
    rows = slice(0, _MOST_PLOTTED)
    weights = particles.normalized_weights[rows].numpy()
    names = particles.element_labels
    columns = [column.numpy() for column in particles.latents[rows].T]
    generator = torch.Generator().manual_seed(0)
    prior = run.model.sample(_PRIOR_DRAWS, generator=generator).latents
    others = [column.numpy() for column in prior.T]
    return {
        "marginals": Picture.of_plot(
            "posterior marginals; the prior in grey",
            partial(marginals_plot, names, columns, weights, others),
            columns=1,
        ),
        "pairs": Picture.of_plot(
            "pairs of latents", partial(pairs_plot, names, columns, weights), most=3
        ),
        "weights": Picture(
            "histogram of log weights",
            weights_plot(particles.log_weights[rows].tolist()),
        ),
    }


def _predictive(
    run: FinishedRun, particles: Particles, observed: Mapping[str, float]
) -> dict[str, Any]:
    row = torch.tensor(list(observed.values()), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    found = posterior_predictive(
        run.model, particles, row, _PREDICTIVE_DRAWS, generator=generator
    )
    keys = ("observed", "mean", "sd", "quantile_05", "quantile_95")
    return {
        "predicted": [
            (
                each.name,
                *(number(getattr(each, key)) for key in keys),
                f"{each.level:.1%}",
            )
            for each in found.numbers[:_MOST_NUMBERS]
        ],
        "new_data": Picture.of_plot(
            "new data; a line marks the data at hand",
            partial(predictive_plot, found.to_json()),
            columns=1,
        ),
    }

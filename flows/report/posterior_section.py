"""This file prepares what a page says of the posterior of one data set."""

from typing import Any

from ..inference.particles import Particles
from .finished_run import FinishedRun
from .particle_pictures import particle_pictures, predicted
from .words import evidence_in_words, number

__all__ = ["posterior_section"]


def posterior_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the figures and pictures, None without particles of one data set."""
    summary = run.json("particles/summary.json")
    if summary is None or "data_sets" in summary:
        return None
    keys = ("sd", "quantile_05", "quantile_95")
    section: dict[str, Any] = {
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
        "particles": None,
    }
    if summary["latents"]:
        particles = Particles.load(run.path / "particles" / "particles.npz")
        section["particles"] = particle_pictures(run.model, particles) | predicted(
            run.model, particles, summary["observed"]
        )
    return section

"""This file prepares what a page says of the posterior of one data set."""

from collections.abc import Mapping
from typing import Any

from ..inference.particles import Particles
from .finished_run import FinishedRun
from .inference_table import leaves
from .particle_pictures import particle_pictures, predicted
from .words import (
    LATENT_KEYS,
    estimate,
    evidence_in_words,
    most_probable,
    number,
)

__all__ = ["posterior_section"]


def posterior_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the figures and pictures, None without particles of one data set."""
    summary = run.json("particles/summary.json")
    if summary is None or "data_sets" in summary:
        return None
    chances = summary.get("probabilities", {})
    returned = _not_latents(summary, chances)
    section: dict[str, Any] = {
        "cautions": [
            (c["what"], c["meaning"], c["remedy"]) for c in summary["cautions"]
        ],
        "latents": [
            (latent["label"], *estimate(latent, *LATENT_KEYS))
            for latent in summary["latents"]
        ],
        "returned": [
            (name, *estimate(f, "mean", "mc_error", "sd", "q05", "q95"))
            for name, f in returned
        ],
        "bars": [
            (name, most_probable(each))
            for name, each in (
                *chances.items(),
                *((name, f.get("probabilities")) for name, f in returned),
            )
            if each
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


def _not_latents(
    summary: Mapping[str, Any], chances: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the leaves of the return value that are no constants and no latents."""

    def told(figures: Mapping[str, Any], of: Any) -> tuple[Any, ...]:
        return number(figures["mean"], 9), number(figures["sd"], 9), of

    known = [
        told(latent, chances.get(latent["label"])) for latent in summary["latents"]
    ]
    return [
        (name, figures)
        for name, figures in leaves(summary.get("return"), "return")
        if isinstance(figures, Mapping)
        and told(figures, figures.get("probabilities")) not in known
    ]

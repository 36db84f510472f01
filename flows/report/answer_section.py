"""This file prepares what a page says of an answer of `infer`.

Answers of earlier versions lack `observed`, what new data are compared with, and may
lack `tempering`; particles may have been taken away. What is there is shown.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..inference.particles import Particles
from .finished_run import FinishedRun
from .inference_table import leaves
from .particle_pictures import particle_pictures, predicted
from .particle_plots import path_plot
from .picture import Picture
from .words import draws_in_words, estimate, most_probable, number

__all__ = ["answer_section"]

_MOST_NUMBERS = 200
_PLACES = ("", "answer/")


def answer_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return figures of latents and return value, and pictures of the particles."""
    found = ((run.json(f"{place}inference.json"), place) for place in _PLACES)
    answer, place = next((each for each in found if each[0] is not None), (None, ""))
    if answer is None:
        return None
    figures = [
        *answer["latents"].items(),
        *leaves(answer["return"], "return"),
    ][:_MOST_NUMBERS]
    known = [(n, f) for n, f in figures if isinstance(f, Mapping)]
    evidence = answer["log_evidence"]
    return {
        "method": f"{answer['method']}: {answer['why']}",
        "ok": answer["ok"],
        "cautions": answer["cautions"],
        "numbers": [
            (name, *estimate(f, "mean", "mc_error", "sd", "q05", "median", "q95"))
            for name, f in known
            if f["mean"] is not None
        ],
        "bars": [
            (name, most_probable(f["probabilities"]))
            for name, f in known
            if f.get("probabilities")
        ],
        "figures": [
            (
                "log evidence",
                f"{number(evidence['value'], 7)} ± "
                f"{number(evidence['standard_error'], 2)} nats",
            ),
            ("ESS", f"{draws_in_words(answer['ess'])} of {answer['num_particles']}"),
            ("Pareto k-hat", number(answer["khat"], 3)),
        ],
        "tempering": _tempering(answer.get("tempering")),
        "particles": _particles(run, answer, run.path / place / "particles.npz"),
    }


def _tempering(tempering: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the path of temperatures, and how far the islands agree."""
    if tempering is None:
        return None
    apart, islands = tempering["disagreement"], tempering["islands"]
    return {
        "path": Picture.of_plot(
            "temperature, ESS and acceptance of each island",
            partial(path_plot, islands),
            columns=1,
        ),
        "coordinates": tempering["coordinates"],
        "islands": [
            (
                count,
                f"{number(each['log_evidence'], 7)} ± "
                f"{number(each['standard_error'], 2)}",
                number(each["ess"]),
                len(each["path"]),
            )
            for count, each in enumerate(islands, 1)
        ],
        "apart": [
            ("log evidence, nats", number(apart["log_evidence"], 2)),
            ("a mean, in its errors", number(apart["mean_in_standard_errors"], 2)),
            ("that mean, in sd", number(apart["mean_in_deviations"], 2)),
        ],
    }


def _particles(
    run: FinishedRun, answer: Mapping[str, Any], path: Path
) -> dict[str, Any] | None:
    """Return pictures of the particles; None without any, or if all weigh 0."""
    if not path.is_file():
        return None
    particles = Particles.load(path)
    if particles.totals.log_sum == -math.inf:
        return None
    pictures = particle_pictures(run.model, particles) if particles.columns else {}
    observed = answer.get("observed")
    if observed:
        pictures |= predicted(run.model, particles, observed)
    return pictures

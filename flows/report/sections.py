"""This file prepares what a page says of a run, one function for each section.

A section is a dictionary of texts, rows and pictures; None where the run does not hold
what the section needs, so that the page names the command that makes it.
"""

from functools import partial
from typing import Any

from daphne_bridge.graph.drawing import show_graph
from daphne_bridge.inversion.document import load_inverse
from daphne_bridge.inversion.drawing import inverse_to_svg

from ..measurement.evaluation import PROPOSAL_FIGURES
from .finished_run import FinishedRun, run_files
from .graph_picture import graph_picture
from .picture import Picture
from .plots import (
    coverage_plot,
    curves_plot,
    ks_plot,
    ranks_plot,
    values_plot,
    weakness_plot,
)
from .words import calibration_in_words, j_in_words, number

__all__ = [
    "diagnosis_section",
    "files_section",
    "model_section",
    "quality_section",
    "training_section",
]

_MOST_DRAWN = 80


def model_section(run: FinishedRun) -> dict[str, Any]:
    """Return the program, the graph and its inverse."""
    graph = run.graph
    labels = {node.name: node.label for node in graph.nodes}
    parents = {node.name: node.parents for node in graph.nodes}

    def drawn(
        parents: dict[str, tuple[str, ...]], observed: Any, kind: str, alt: str
    ) -> list[Picture]:
        if len(parents) > _MOST_DRAWN:
            return []
        svg = graph_picture(list(parents), parents, observed, labels, kind)
        return [Picture(alt, svg, is_wide=True)]

    section: dict[str, Any] = {
        "num_latents": len(graph.latents),
        "num_observed": len(graph.observed),
        "program": run.program,
        "graph": show_graph(graph),
        "graph_pictures": drawn(
            parents,
            graph.observed,
            "model",
            "graph of the model; observed nodes are shaded",
        ),
        "digest": graph.digest[:23],
        "inverse_pictures": None,
    }
    path = run.path / "inverse.json"
    if path.is_file():
        inverse = load_inverse(path)
        above: dict[str, tuple[str, ...]] = dict.fromkeys(inverse.observed, ())
        above |= {name: tuple(inverse.parents[name]) for name in inverse.latents}
        section["inverse_pictures"] = [
            *drawn(
                above,
                inverse.observed,
                "inverse",
                "inverse: data above, latents in sampling order",
            ),
            Picture("adjacency of the inverse", inverse_to_svg(inverse), is_wide=True),
        ]
    return section


def training_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the curves of the training log."""
    name = "artifact.training/log.jsonl"
    if not (run.path / name).is_file():
        return None
    draw = partial(curves_plot, run.json_lines(name))
    return {"curves": Picture.of_plot("training curves", draw, columns=1)}


def quality_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the figures of `evaluate`."""
    evaluation = run.json("evaluation.json")
    if evaluation is None:
        return None
    j = evaluation["j"]["symmetric"]
    both = f"{number(j['mean'])} ± {number(j['standard_error'], 2)} nats"
    words = j_in_words(j["mean"], evaluation["flow"]["ess_median"])
    return {
        "figures": [
            ("J, symmetric KL", f"{both}: {words}"),
            ("parameters", evaluation["num_parameters"]),
        ],
        "num_data_sets": evaluation["config"]["num_data_sets"],
        "proposals": [
            (name, *(number(evaluation[of][key]) for of in ("flow", "prior")))
            for key, name in PROPOSAL_FIGURES
        ],
        "marginals": [(e["name"], number(e["ks"])) for e in evaluation["latents"]],
    }


def diagnosis_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return the pictures of `diagnose`, and its judgements in words."""
    diagnosis = run.json("diagnosis/diagnosis.json")
    if diagnosis is None:
        return None
    latents = diagnosis["latents"]
    weighted = partial(ranks_plot, diagnosis, of="weighted_ranks")
    return {
        "num_data_sets": diagnosis["config"]["num_data_sets"],
        "own": calibration_in_words(latents),
        "weighted": calibration_in_words(latents, "is_weighted_calibrated"),
        "ranks": Picture.of_plot(
            "calibration ranks with their band",
            partial(ranks_plot, diagnosis),
            columns=1,
        ),
        "weighted_ranks": Picture.of_plot(
            "calibration ranks of weighted draws with their band", weighted, columns=1
        ),
        "marginals": Picture.of_plot(
            "marginals of truths and draws with KS",
            partial(ks_plot, diagnosis),
            columns=1,
        ),
        "coverage": Picture("expected coverage", coverage_plot(diagnosis)),
        "weakness": Picture("variance of log weights by node", weakness_plot(diagnosis))
        if diagnosis["nodes"]
        else None,
        "values": [
            Picture(name, values_plot(diagnosis[key], name))
            for key, name in (("ess_fractions", "ESS / N"), ("k_hats", "Pareto k-hat"))
        ],
    }


def files_section(run: FinishedRun) -> dict[str, Any]:
    """Return the files of the run, and the versions that trained its flow."""
    manifest = run.json("artifact/manifest.json") or {}
    places = [(path.relative_to(run.path), path) for path in run_files(run.path)]
    return {
        "files": [
            (place, f"{path.stat().st_size} bytes")
            for place, path in places
            if not any(part.startswith(".") for part in place.parts)
        ],
        "versions": sorted(manifest.get("libraries", {}).items()),
    }

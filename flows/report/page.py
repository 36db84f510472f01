"""This file lays a finished run out as one HTML page that needs no network.

All pictures are inside the page. What a run does not hold is named with the command
that makes it.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from daphne_bridge.errors import printable
from daphne_bridge.graph.drawing import show_graph
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.document import load_inverse
from daphne_bridge.inversion.drawing import inverse_to_svg

from ..errors import FlowsError, Problem
from ..inference.particles import Particles
from ..measurement.evaluation import PROPOSAL_FIGURES
from ..measurement.predictive import posterior_predictive
from ..model.model import Model
from ..storage.folders import read_file
from .graph_picture import graph_picture
from .plots import (
    coverage_plot,
    curves_plot,
    ks_plot,
    marginals_plot,
    pairs_plot,
    predictive_plot,
    ranks_plot,
    values_plot,
    weakness_plot,
    weights_plot,
)

__all__ = ["RunFolder", "report_page", "run_files"]

_LIMIT = 2**30
_MOST_DRAWN = 80
_MOST_PLOTTED = 50_000
_PREDICTIVE_DRAWS = 5000
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  margin: 0 auto; padding: 0 16px 48px; max-width: 860px; }
h1 { font-size: 1.6em; margin: 24px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; margin: 32px 0 8px; border-bottom: 1px solid #ddd; }
h3 { font-size: 1em; margin: 20px 0 4px; }
img { max-width: 100%; height: auto; display: block; margin: 8px 0; }
pre, .wide { overflow-x: auto; margin: 8px 0 16px; }
.wide img { max-width: none; }
pre { background: #f5f5f5; padding: 10px; font-size: 13px; line-height: 1.4; }
table { border-collapse: collapse; font-size: 14px; }
td, th { padding: 3px 10px 3px 0; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
tr + tr { border-top: 1px solid #eee; }
.caution { background: #fdf0e6; border-left: 4px solid #c2571a; padding: 8px 12px;
  margin: 8px 0; }
.absent { color: #777; }
@media (min-width: 860px) { .wide img { max-width: 100%; } }
@media (max-width: 600px) {
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
  table { font-size: 12px; }
  td, th { padding-right: 7px; }
}
"""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A finished run.

    Attributes:
        path: The folder.
        graph: Of its document.
        model: Of the graph.
        program: Text of the program, if it is at hand.
    """

    path: Path
    graph: Graph
    model: Model
    program: str | None


def run_files(folder: Path) -> list[Path]:
    """Return the files of a run, sorted, without its pages."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".html"
    ]


def report_page(run: RunFolder) -> str:
    """Return the page.

    Raises:
        FlowsError: If a file of the run is damaged.
    """
    title = _shown(run.path.resolve().name)
    sections = [
        _model_section(run),
        *(_section_of(make, run, name) for make, name in _SECTIONS),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n<p>{len(run.graph.latents)} latent and "
        f"{len(run.graph.observed)} observed nodes</p>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _section_of(make: Callable[[RunFolder], str], run: RunFolder, name: str) -> str:
    """Return the section that `make` makes of the file `name`."""
    try:
        return make(run)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        raise _damaged(run.path / name) from None


def _damaged(path: Path) -> FlowsError:
    return FlowsError(Problem(str(path), "damaged", "what the command wrote"))


def _shown(text: str) -> str:
    """Return text of one line for the page, control characters as escapes."""
    return escape(printable(text), quote=True)


def _lines(text: str) -> str:
    """Return text of many lines for the page."""
    return "\n".join(_shown(line.expandtabs()) for line in text.splitlines())


def _picture(svg: str, alt: str, narrow: str = "") -> str:
    """Return a picture that shrinks to the width of the page.

    Args:
        svg: The picture.
        alt: What it shows.
        narrow: The same for a narrow page, where shrinking would make it unreadable.
    """
    other = (
        f'<source media="(max-width: 600px)" srcset="{_data(narrow)}">'
        if narrow
        else ""
    )
    name = _shown(alt)
    return f'<picture>{other}<img alt="{name}" src="{_data(svg)}"></picture>'


def _wide_picture(svg: str, alt: str) -> str:
    """Return a picture of any width, which a narrow page shows part by part."""
    name = _shown(alt)
    return f'<div class="wide"><img alt="{name}" src="{_data(svg)}"></div>'


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _absent(what: str, command: str) -> str:
    return (
        f'<p class="absent">{_shown(what)}: not there. '
        f"<code>{_shown(command)}</code> makes it.</p>"
    )


def _number(value: Any, digits: int = 4) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, int | float) else str(value)


def _table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_shown(each)}</th>" for each in heading)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{_shown(str(each))}</td>" for each in row) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _json(path: Path) -> Any:
    """Return the JSON value of a file, None if it is not there."""
    if not path.is_file():
        return None
    try:
        return json.loads(read_file(path, "a JSON file", limit=_LIMIT))
    except ValueError:
        raise _damaged(path) from None


def _model_section(run: RunFolder) -> str:
    graph = run.graph
    labels = {node.name: node.label for node in graph.nodes}
    parts = ["<h2>Model</h2>"]
    if run.program is not None:
        parts.append(f"<h3>Program</h3><pre>{_lines(run.program)}</pre>")
    parts.append(f"<h3>Graph</h3><pre>{_lines(show_graph(graph))}</pre>")
    if len(graph.nodes) <= _MOST_DRAWN:
        names = [node.name for node in graph.nodes]
        parents = {node.name: node.parents for node in graph.nodes}
        svg = graph_picture(names, parents, graph.observed, labels, "model")
        alt = "graph of the model; observed nodes are shaded"
        parts.append(_wide_picture(svg, alt))
    path = run.path / "inverse.json"
    parts.append("<h3>Inverse</h3>")
    if not path.is_file():
        command = f"daphne-bridge invert {run.path}/graph.json -o {path}"
        return "\n".join([*parts, _absent("inverse", command)])
    inverse = load_inverse(path)
    names = [*inverse.observed, *inverse.latents]
    if len(names) <= _MOST_DRAWN:
        above: dict[str, tuple[str, ...]] = dict.fromkeys(inverse.observed, ())
        above |= {name: tuple(inverse.parents[name]) for name in inverse.latents}
        svg = graph_picture(names, above, inverse.observed, labels, "inverse")
        alt = "inverse: data above, latents in sampling order"
        parts.append(_wide_picture(svg, alt))
    parts.append(_wide_picture(inverse_to_svg(inverse), "adjacency of the inverse"))
    return "\n".join(parts)


def _training_section(run: RunFolder) -> str:
    path = run.path / "artifact.training" / "log.jsonl"
    if not path.is_file():
        command = f"daphne-flows train {run.path}/graph.json -o {run.path}/artifact"
        return "<h2>Training</h2>" + _absent("training log", command)
    reports = []
    for line in read_file(path, "a training log", limit=_LIMIT).splitlines():
        try:
            reports.append(json.loads(line))
        except ValueError:
            # The last line of a training that goes on may be half there.
            continue
    return "<h2>Training</h2>" + _picture(
        curves_plot(reports), "training curves", curves_plot(reports, columns=1)
    )


def _posterior_section(run: RunFolder) -> str:
    folder = run.path / "particles"
    summary = _json(folder / "summary.json")
    if summary is None or "data_sets" in summary:
        command = (
            f"daphne-flows sample {run.path}/artifact {run.path}/graph.json -o {folder}"
        )
        return "<h2>Posterior</h2>" + _absent("particles of one data set", command)
    parts = ["<h2>Posterior</h2>"]
    parts += [
        f'<p class="caution">{_shown(c["what"])}: {_shown(c["meaning"])}. '
        f"{_shown(c['remedy'])}.</p>"
        for c in summary["cautions"]
    ]
    parts.append(
        _table(
            ("latent", "mean", "± MC", "sd", "5 %", "95 %"),
            (
                (
                    latent["label"],
                    _number(latent["mean"], 5),
                    _number(latent["mean_standard_error"], 2),
                    *(
                        _number(latent[key])
                        for key in ("sd", "quantile_05", "quantile_95")
                    ),
                )
                for latent in summary["latents"]
            ),
        )
    )
    given = ", ".join(f"{k} = {_number(v)}" for k, v in summary["observed"].items())
    error = summary["log_evidence_standard_error"]
    known = "nats, ± not known" if error is None else f"± {_number(error, 2)} nats"
    figures = (
        ("log evidence", f"{_number(summary['log_evidence'], 6)} {known}"),
        ("ESS / N", f"{_number(summary['ess_fraction'])}"),
        ("particles", f"{summary['num_particles']} from the {summary['proposal']}"),
        ("Pareto k-hat", _number(summary["k_hat"], 3)),
    )
    parts.append(_table(("figure", "value"), figures))
    parts.append(f"<p>Given {_shown(given)}.</p>")
    if summary["latents"]:
        particles = Particles.load(folder / "particles.npz")
        parts.append(_particle_pictures(run, particles))
        parts.append(_predictive(run, particles, summary["observed"]))
    return "\n".join(parts)


def _predictive(
    run: RunFolder, particles: Particles, observed: Mapping[str, float]
) -> str:
    row = torch.tensor(list(observed.values()), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    found = posterior_predictive(
        run.model, particles, row, _PREDICTIVE_DRAWS, generator=generator
    )
    rows = [
        (
            number.name,
            _number(number.observed),
            _number(number.mean),
            _number(number.sd),
            _number(number.quantile_05),
            _number(number.quantile_95),
            f"{number.level:.1%}",
        )
        for number in found.numbers[:_MOST_DRAWN]
    ]
    return (
        "<h3>Posterior predictive</h3>"
        "<p>New data drawn given posterior latents, and how much of them lies below "
        "the data. Close to 0 % or 100 %, the model misses this number.</p>"
        + _table(("data", "value", "mean", "sd", "5 %", "95 %", "below"), rows)
        + _picture(
            predictive_plot(found.to_json()),
            "new data; a line marks the data at hand",
            predictive_plot(found.to_json(), columns=1),
        )
    )


def _particle_pictures(run: RunFolder, particles: Particles) -> str:
    rows = slice(0, _MOST_PLOTTED)
    weights = particles.normalized_weights[rows].numpy()
    names = particles.element_labels
    columns = [column.numpy() for column in particles.latents[rows].T]
    generator = torch.Generator().manual_seed(0)
    prior = run.model.sample(5000, generator=generator).latents
    others = [column.numpy() for column in prior.T]
    log_weights = particles.log_weights[rows].tolist()
    return (
        "<h3>Marginals</h3>"
        + _picture(
            marginals_plot(names, columns, weights, others),
            "posterior marginals; the prior in grey",
            marginals_plot(names, columns, weights, others, columns=1),
        )
        + "<h3>Pairs</h3>"
        + _picture(
            pairs_plot(names, columns, weights),
            "pairs of latents",
            pairs_plot(names, columns, weights, most=3),
        )
        + "<h3>Weights</h3>"
        + _picture(weights_plot(log_weights), "histogram of log weights")
    )


def _quality_section(run: RunFolder) -> str:
    evaluation = _json(run.path / "evaluation.json")
    if evaluation is None:
        command = (
            f"daphne-flows evaluate {run.path}/artifact {run.path}/graph.json "
            f"-o {run.path}/evaluation.json"
        )
        return "<h2>The flow as a proposal</h2>" + _absent("evaluation", command)
    j = evaluation["j"]["symmetric"]
    rows = [
        (
            "J, symmetric KL",
            f"{_number(j['mean'])} ± {_number(j['standard_error'], 2)} nats",
        ),
        ("parameters", str(evaluation["num_parameters"])),
    ]
    proposals = [
        (name, *(_number(evaluation[of][key]) for of in ("flow", "prior")))
        for key, name in PROPOSAL_FIGURES
    ]
    marginals = [(each["name"], _number(each["ks"])) for each in evaluation["latents"]]
    config = evaluation["config"]
    return (
        "<h2>The flow as a proposal</h2>"
        + _table(("figure", "value"), rows)
        + f"<h3>Against the prior, on the same {config['num_data_sets']} data sets</h3>"
        + _table(("figure", "flow", "prior"), proposals)
        + "<h3>Marginals: Kolmogorov-Smirnov statistics</h3>"
        + _table(("latent", "KS"), marginals)
    )


def _diagnosis_section(run: RunFolder) -> str:
    diagnosis = _json(run.path / "diagnosis" / "diagnosis.json")
    if diagnosis is None:
        command = (
            f"daphne-flows diagnose {run.path}/artifact {run.path}/graph.json "
            f"-o {run.path}/diagnosis"
        )
        return "<h2>Calibration</h2>" + _absent("diagnosis", command)
    own, weighted = (
        "inside" if diagnosis[key] else "outside"
        for key in ("is_calibrated", "is_weighted_calibrated")
    )
    config: Mapping[str, Any] = diagnosis["config"]
    return (
        "<h2>Calibration</h2>"
        f"<p>{config['num_data_sets']} simulated data sets. The ranks of the flow's "
        f"own draws are {own} the joint 99 % band; those of the weighted draws, which "
        f"answers are made of, are {weighted} it.</p><h3>The flow's own draws</h3>"
        + _picture(
            ranks_plot(diagnosis),
            "calibration ranks with their band",
            ranks_plot(diagnosis, columns=1),
        )
        + "<h3>Weighted draws</h3>"
        + _picture(
            ranks_plot(diagnosis, of="weighted_ranks"),
            "calibration ranks of weighted draws with their band",
            ranks_plot(diagnosis, of="weighted_ranks", columns=1),
        )
        + "<h3>Marginals of truths (grey) and draws, with KS</h3>"
        + _picture(
            ks_plot(diagnosis),
            "marginals of truths and draws with KS",
            ks_plot(diagnosis, columns=1),
        )
        + "<h3>Expected coverage</h3>"
        + _picture(coverage_plot(diagnosis), "expected coverage")
        + "<h3>What each node costs</h3>"
        + _picture(weakness_plot(diagnosis), "variance of log weights by node")
        + "<h3>ESS and k-hat over data sets</h3>"
        + _picture(values_plot(diagnosis["ess_fractions"], "ESS / N"), "ESS / N")
        + _picture(values_plot(diagnosis["k_hats"], "Pareto k-hat"), "Pareto k-hat")
    )


def _files_section(run: RunFolder) -> str:
    manifest = _json(run.path / "artifact" / "manifest.json") or {}
    versions = manifest.get("libraries", {})
    files = [
        (str(path.relative_to(run.path)), f"{path.stat().st_size} bytes")
        for path in run_files(run.path)
        if not any(part.startswith(".") for part in path.relative_to(run.path).parts)
    ]
    return (
        "<h2>Files and versions</h2>"
        + _table(("file", "size"), files)
        + "<h3>Versions that trained the flow</h3>"
        + _table(("library", "version"), sorted(versions.items()))
        + f"<p>Model <code>{_shown(run.graph.digest[:23])}…</code></p>"
    )


_SECTIONS: tuple[tuple[Callable[[RunFolder], str], str], ...] = (
    (_training_section, "artifact.training/log.jsonl"),
    (_posterior_section, "particles/summary.json"),
    (_quality_section, "evaluation.json"),
    (_diagnosis_section, "diagnosis/diagnosis.json"),
    (_files_section, "artifact/manifest.json"),
)

"""This file draws figures as SVG text; it needs matplotlib (an extra)."""

import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from daphne_bridge.errors import printable

from ..optional import require

__all__ = [
    "check_plots",
    "coverage_plot",
    "curves_plot",
    "ks_plot",
    "marginals_plot",
    "pairs_plot",
    "predictive_plot",
    "ranks_plot",
    "values_plot",
    "weakness_plot",
    "weights_plot",
]

_MOST_PANELS = 24
_COLOUR = "#2f6f9f"
_ACCENT = "#c2571a"


def check_plots() -> None:
    """Raise unless matplotlib is installed.

    Raises:
        FlowsError: If it is not.
    """
    require("matplotlib", extra="plots", where="plots")


def _figure(width: float, height: float) -> Any:
    figure = import_module("matplotlib.figure").Figure((width, height))
    figure.set_layout_engine("constrained")
    return figure


def _grid(count: int, columns: int) -> tuple[Any, list[Any]]:
    count = min(count, _MOST_PANELS)
    columns = min(columns, max(count, 1))
    rows = max(1, -(-count // columns))
    figure = _figure(2.6 * columns, 1.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def _text(name: str) -> str:
    """Return a name as it stands: no formula between dollars, nothing unprintable."""
    return printable(name).replace("$", r"\$")


def _svg(figure: Any) -> str:
    matplotlib = import_module("matplotlib")
    stream = io.StringIO()
    # Equal figures give equal text: no date, and a fixed salt for the ids.
    with matplotlib.rc_context({"svg.hashsalt": "figure", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def ranks_plot(
    diagnosis: Mapping[str, Any], *, of: str = "ranks", columns: int = 3
) -> str:
    """Return the rank histograms of a diagnosis, with their bands.

    Args:
        diagnosis: What `diagnosis.json` holds.
        of: `ranks`, the flow's own draws, or `weighted_ranks`.
        columns: How many panels stand side by side.
    """
    latents = diagnosis["latents"]
    verdict = {"ranks": "is_calibrated", "weighted_ranks": "is_weighted_calibrated"}
    figure, axes = _grid(len(latents), columns)
    for axis, latent in zip(axes, latents, strict=False):
        ranks = latent[of]
        places = range(len(ranks["counts"]))
        axis.axhspan(ranks["low"], ranks["high"], color="0.88")
        colour = _ACCENT if latent[verdict[of]] is False else _COLOUR
        axis.bar(places, ranks["counts"], color=colour, width=0.9)
        axis.set_title(_text(latent["name"]), fontsize=9)
        axis.tick_params(labelsize=7)
    return _svg(figure)


def ks_plot(diagnosis: Mapping[str, Any], *, columns: int = 3) -> str:
    """Return the marginals of truths and draws, with their KS statistics."""
    latents = diagnosis["latents"]
    figure, axes = _grid(len(latents), columns)
    for axis, latent in zip(axes, latents, strict=False):
        marginal = latent["marginal"]
        edges = marginal["edges"]
        axis.stairs(marginal["truths"], edges, fill=True, color="0.8")
        axis.stairs(marginal["draws"], edges, color=_COLOUR)
        axis.set_title(f"{_text(latent['name'])}, KS {latent['ks']:.3f}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return _svg(figure)


def predictive_plot(predictive: Mapping[str, Any], *, columns: int = 3) -> str:
    """Return histograms of new data, with the observed numbers."""
    numbers = predictive["numbers"]
    figure, axes = _grid(len(numbers), columns)
    for axis, number in zip(axes, numbers, strict=False):
        axis.stairs(number["counts"], number["edges"], fill=True, color=_COLOUR)
        axis.axvline(number["observed"], color=_ACCENT)
        axis.set_title(_text(number["name"]), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return _svg(figure)


def coverage_plot(diagnosis: Mapping[str, Any]) -> str:
    """Return expected against found coverage, one line per latent."""
    figure = _figure(4, 3.4)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for latent in diagnosis["latents"]:
        axis.plot(
            diagnosis["coverage_levels"],
            latent["coverage"],
            linewidth=1,
            marker=".",
            label=_text(latent["name"]),
        )
    axis.set_xlabel("mass of the central interval")
    axis.set_ylabel("share of truths inside")
    if len(diagnosis["latents"]) <= 12:
        axis.legend(fontsize=7)
    return _svg(figure)


def weakness_plot(diagnosis: Mapping[str, Any]) -> str:
    """Return what each node's conditional costs in the median over data sets."""
    nodes = diagnosis["nodes"]
    figure = _figure(5, 0.9 + 0.22 * min(len(nodes), 60))
    axis = figure.subplots()
    shown = sorted(nodes, key=lambda node: node["median_variance"] or 0.0)[-60:]
    values = [node["median_variance"] or 0.0 for node in shown]
    axis.barh([_text(node["name"]) for node in shown], values, color=_COLOUR)
    axis.axvline(0.0, color="0.6", linewidth=0.8)
    axis.set_xlabel("part of the variance of log weights, median, nats²")
    axis.tick_params(labelsize=7)
    return _svg(figure)


def values_plot(values: Sequence[float | None], name: str) -> str:
    """Return a histogram of one figure over data sets."""
    figure = _figure(4, 2.4)
    axis = figure.subplots()
    axis.hist([v for v in values if v is not None], bins=30, color=_COLOUR)
    axis.set_xlabel(name)
    axis.set_ylabel("data sets")
    return _svg(figure)


def curves_plot(reports: Sequence[Mapping[str, Any]], *, columns: int = 2) -> str:
    """Return training curves: certified J, loss and ESS / N over seconds."""
    figure = _figure(3.5 * columns, 2.8 * (2 // columns))
    left, right = figure.subplots(2 // columns, columns, squeeze=False).ravel()
    losses = [(r["seconds"], r["loss"]) for r in reports if r.get("loss") is not None]
    if losses:
        left.plot(*zip(*losses, strict=True), color="0.6", linewidth=0.8, label="loss")
    sure = [r for r in reports if r.get("certified")]
    means = [r["certified"]["symmetric"]["mean"] for r in sure]
    times = [r["seconds"] for r in sure]
    left.plot(times, means, color=_COLOUR, marker="o", markersize=3, label="J")
    left.set_yscale("symlog", linthresh=0.01)
    left.set_xlabel("seconds")
    left.set_ylabel("nats")
    left.legend(fontsize=7)
    ess = [(r["seconds"], r["ess"]) for r in reports if r.get("ess") is not None]
    if ess:
        right.plot(*zip(*ess, strict=True), color=_ACCENT, marker="o", markersize=3)
    right.set_ylim(0, 1.02)
    right.set_xlabel("seconds")
    right.set_ylabel("ESS / N")
    return _svg(figure)


def marginals_plot(
    names: Sequence[str],
    latents: Sequence[Any],
    weights: Any,
    other: Sequence[Any],
    *,
    columns: int = 3,
) -> str:
    """Return weighted histograms of the posterior, with the prior behind them.

    The prior is shown around the posterior, where it may be all but flat.

    Args:
        names: Labels of the latents.
        latents: Values of the particles, one array per latent.
        weights: Normalised weights.
        other: Draws of the prior, one array per latent.
        columns: How many panels stand side by side.
    """
    figure, axes = _grid(len(names), columns)
    for axis, name, values, prior in zip(axes, names, latents, other, strict=False):
        edges = _edges(values[weights > 0.0])
        for drawn, shares, colour in (
            (prior, None, "0.8"),
            (values, weights, _COLOUR),
        ):
            counts, _ = np.histogram(drawn, edges, weights=shares)
            total = len(drawn) if shares is None else shares.sum()
            axis.stairs(counts / total, edges, fill=True, color=colour, alpha=0.8)
        axis.set_title(_text(name), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return _svg(figure)


def _edges(values: Any) -> Any:
    """Return the ends of bins around values, and half their range further out."""
    low, high = float(values.min()), float(values.max())
    margin = 0.5 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, 81)


def pairs_plot(
    names: Sequence[str], latents: Sequence[Any], weights: Any, *, most: int = 5
) -> str:
    """Return weighted two-dimensional histograms of the first few latents."""
    count = min(len(names), most)
    figure = _figure(1.5 * count + 0.4, 1.5 * count + 0.4)
    axes = figure.subplots(count, count, squeeze=False)
    for row in range(count):
        for column in range(count):
            axis = axes[row][column]
            axis.tick_params(labelsize=6)
            if column > row:
                axis.set_axis_off()
            elif column == row:
                axis.hist(latents[row], bins=30, weights=weights, color=_COLOUR)
                axis.set_yticks([])
            else:
                axis.hist2d(
                    latents[column], latents[row], bins=30, weights=weights,
                    cmap="Blues", rasterized=True,
                )  # fmt: skip
            if row == count - 1:
                axis.set_xlabel(_text(names[column]), fontsize=8)
            if column == 0:
                axis.set_ylabel(_text(names[row]), fontsize=8)
    return _svg(figure)


def weights_plot(log_weights: Sequence[float]) -> str:
    """Return a histogram of log weights relative to the largest."""
    figure = _figure(4, 2.4)
    axis = figure.subplots()
    largest = max(log_weights)
    finite = [w - largest for w in log_weights if w > float("-inf")]
    axis.hist(finite, bins=60, color=_COLOUR)
    axis.set_yscale("log")
    axis.set_xlabel("log weight, relative to the largest, nats")
    axis.set_ylabel("particles")
    return _svg(figure)

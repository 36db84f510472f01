"""This file draws what is known of a flow: calibration, weak nodes, training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from .canvas import ACCENT, COLOUR, draw_histogram, figure, grid, shown, svg

__all__ = [
    "coverage_plot",
    "curves_plot",
    "ks_plot",
    "ranks_plot",
    "values_plot",
    "weakness_plot",
]


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
    made, axes = grid(len(latents), columns)
    for axis, latent in zip(axes, latents, strict=False):
        ranks = latent[of]
        places = range(len(ranks["counts"]))
        axis.axhspan(ranks["low"], ranks["high"], color="0.88")
        colour = ACCENT if latent[verdict[of]] is False else COLOUR
        axis.bar(places, ranks["counts"], color=colour, width=0.9)
        axis.set_title(shown(latent["name"]), fontsize=9)
        axis.tick_params(labelsize=7)
    return svg(made)


def ks_plot(diagnosis: Mapping[str, Any], *, columns: int = 3) -> str:
    """Return the marginals of truths and draws, with their KS statistics."""
    latents = diagnosis["latents"]
    made, axes = grid(len(latents), columns)
    for axis, latent in zip(axes, latents, strict=False):
        marginal = latent["marginal"]
        edges = marginal["edges"]
        axis.stairs(marginal["truths"], edges, fill=True, color="0.8")
        axis.stairs(marginal["draws"], edges, color=COLOUR)
        axis.set_title(f"{shown(latent['name'])}, KS {latent['ks']:.3f}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return svg(made)


def coverage_plot(diagnosis: Mapping[str, Any]) -> str:
    """Return expected against found coverage, one line per latent."""
    made = figure(4, 3.4)
    axis = made.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for latent in diagnosis["latents"]:
        axis.plot(
            diagnosis["coverage_levels"],
            latent["coverage"],
            linewidth=1,
            marker=".",
            label=shown(latent["name"]),
        )
    axis.set_xlabel("mass of the central interval")
    axis.set_ylabel("share of truths inside")
    if len(diagnosis["latents"]) <= 12:
        axis.legend(fontsize=7)
    return svg(made)


def weakness_plot(diagnosis: Mapping[str, Any]) -> str:
    """Return what each node's conditional costs in the median over data sets."""
    nodes = diagnosis["nodes"]
    made = figure(5, 0.9 + 0.22 * min(len(nodes), 60))
    axis = made.subplots()
    kept = sorted(nodes, key=lambda node: node["median_variance"] or 0.0)[-60:]
    values = [node["median_variance"] or 0.0 for node in kept]
    axis.barh([shown(node["name"]) for node in kept], values, color=COLOUR)
    axis.axvline(0.0, color="0.6", linewidth=0.8)
    axis.set_xlabel("part of the variance of log weights, median, nats²")
    axis.tick_params(labelsize=7)
    return svg(made)


def values_plot(values: Sequence[float | None], name: str) -> str:
    """Return a histogram of one figure over data sets."""
    made = figure(4, 2.4)
    axis = made.subplots()
    draw_histogram(axis, [v for v in values if v is not None], bins=30)
    axis.set_xlabel(name)
    axis.set_ylabel("data sets")
    return svg(made)


def curves_plot(reports: Sequence[Mapping[str, Any]], *, columns: int = 2) -> str:
    """Return training curves: certified J, loss and ESS / N over seconds."""
    made = figure(3.5 * columns, 2.8 * (2 // columns))
    left, right = made.subplots(2 // columns, columns, squeeze=False).ravel()
    losses = [(r["seconds"], r["loss"]) for r in reports if r.get("loss") is not None]
    if losses:
        left.plot(*zip(*losses, strict=True), color="0.6", linewidth=0.8, label="loss")
    sure = [r for r in reports if r.get("certified")]
    means = [r["certified"]["symmetric"]["mean"] for r in sure]
    times = [r["seconds"] for r in sure]
    left.plot(times, means, color=COLOUR, marker="o", markersize=3, label="J")
    left.set_yscale("symlog", linthresh=0.01)
    left.set_xlabel("seconds")
    left.set_ylabel("nats")
    left.legend(fontsize=7)
    ess = [(r["seconds"], r["ess"]) for r in reports if r.get("ess") is not None]
    if ess:
        right.plot(*zip(*ess, strict=True), color=ACCENT, marker="o", markersize=3)
    right.set_ylim(0, 1.02)
    right.set_xlabel("seconds")
    right.set_ylabel("ESS / N")
    return svg(made)

"""This file draws particles: marginals, pairs, weights, and new data they predict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import ACCENT, COLOUR, draw_histogram, figure, grid, shown, svg

__all__ = [
    "marginals_plot",
    "pairs_plot",
    "path_plot",
    "predictive_plot",
    "weights_plot",
    "widest_pairs",
]

_TAIL = 1e-3
_MOST_WHOLE = 60
_MOST_TICKS = 10
_PATH = (("temperature", "temperature"), ("ess", "ESS"), ("acceptance", "acceptance"))


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
    made, axes = grid(len(names), columns)
    for axis, name, values, prior in zip(axes, names, latents, other, strict=False):
        edges = _edges(values, weights)
        for drawn, shares, colour in (
            (prior, None, "0.8"),
            (values, weights, COLOUR),
        ):
            counts, _ = np.histogram(drawn, edges, weights=shares)
            total = len(drawn) if shares is None else shares.sum()
            axis.stairs(counts / total, edges, fill=True, color=colour, alpha=0.8)
        axis.set_title(shown(name), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return svg(made)


def _edges(values: Any, weights: Any) -> Any:
    """Return the ends of bins around most of the mass, and half as far further out.

    A few whole numbers have a bin each.
    """
    low, high = _ends(values, weights)
    alive = values[weights > 0.0]
    if high - low < _MOST_WHOLE and (alive == np.round(alive)).all():
        return np.arange(np.floor(low) - 1.5, np.ceil(high) + 2.0)
    margin = 0.5 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, 81)


def _ends(values: Any, weights: Any) -> tuple[float, float]:
    """Return where all but a thousandth of the mass on either side lies."""
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    places = np.searchsorted(mass, np.array([_TAIL, 1.0 - _TAIL]) * mass[-1])
    low, high = values[order][places]
    return float(low), float(high)


def widest_pairs(latents: Sequence[Any], weights: Any, most: int) -> list[int]:
    """Return the columns with the largest correlations, in their order.

    Columns that vary are taken pair after pair, from the largest |r| down.
    """
    varying = [i for i, values in enumerate(latents) if values.std() > 0.0]
    if len(varying) <= most:
        return varying
    size = np.abs(np.triu(_correlations([latents[i] for i in varying], weights), 1))
    kept: list[int] = []
    for place in np.argsort(-size, axis=None, kind="stable"):
        pair = [varying[i] for i in np.unravel_index(place, size.shape)]
        new = [i for i in pair if i not in kept]
        if len(kept) + len(new) <= most:
            kept += new
        if len(kept) >= most - 1:
            break
    return sorted(kept)


def _correlations(latents: Sequence[Any], weights: Any) -> Any:
    """Return weighted correlations; 0 with a column of no variance."""
    columns = np.stack(latents)
    from_mean = columns - (columns @ weights)[:, None]
    covariance = (from_mean * weights) @ from_mean.T
    sd = np.sqrt(np.diag(covariance))
    return np.nan_to_num(covariance / np.where(sd > 0.0, np.outer(sd, sd), np.inf))


def pairs_plot(
    names: Sequence[str], latents: Sequence[Any], weights: Any, *, most: int = 5
) -> str:
    """Return weighted two-dimensional histograms of the most correlated latents.

    Above the diagonal stand their correlations.
    """
    kept = widest_pairs(latents, weights, most)
    names, columns = [names[i] for i in kept], [latents[i] for i in kept]
    count = len(kept)
    made = figure(1.5 * count + 0.4, 1.5 * count + 0.4)
    if not count:
        return svg(made)
    axes = made.subplots(count, count, squeeze=False)
    edges = [_within(values, weights) for values in columns]
    r = _correlations(columns, weights)
    for row in range(count):
        for column in range(count):
            axis = axes[row][column]
            axis.tick_params(labelsize=6)
            if column > row:
                axis.set_axis_off()
                axis.text(0.5, 0.5, f"r = {r[row][column]:.2f}", ha="center")
            elif column == row:
                axis.hist(columns[row], edges[row], weights=weights, color=COLOUR)
                axis.set_yticks([])
            else:
                axis.hist2d(
                    columns[column], columns[row],
                    bins=(edges[column], edges[row]), weights=weights,
                    cmap="Blues", rasterized=True,
                )  # fmt: skip
            if row == count - 1:
                axis.set_xlabel(shown(names[column]), fontsize=8)
            if column == 0:
                axis.set_ylabel(shown(names[row]), fontsize=8)
    return svg(made)


def _within(values: Any, weights: Any) -> Any:
    low, high = _ends(values, weights)
    margin = 0.05 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, 31)


def path_plot(islands: Sequence[Mapping[str, Any]], *, columns: int = 3) -> str:
    """Return the way from prior to posterior: one line for each island.

    Args:
        islands: Those of `inference.json`.
        columns: How many panels stand side by side.
    """
    made, axes = grid(len(_PATH), columns)
    for axis, (key, title) in zip(axes, _PATH, strict=True):
        for count, island in enumerate(islands):
            known = [each.get(key) for each in island["path"]]
            values = [np.nan if value is None else value for value in known]
            colour = (COLOUR, ACCENT)[count % 2]
            axis.plot(range(1, len(values) + 1), values, color=colour, marker=".")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_ylim(bottom=0.0)
    return svg(made)


def predictive_plot(predictive: Mapping[str, Any], *, columns: int = 3) -> str:
    """Return histograms of new data, with the observed numbers.

    Discrete values have bars, and the observed one another colour.
    """
    numbers = predictive["numbers"]
    made, axes = grid(len(numbers), columns)
    for axis, number in zip(axes, numbers, strict=False):
        if number.get("probabilities"):
            _bars(axis, number["probabilities"], number["value"])
        else:
            axis.stairs(number["counts"], number["edges"], fill=True, color=COLOUR)
            axis.axvline(number["observed"], color=ACCENT)
        axis.set_title(shown(number["name"]), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return svg(made)


def _bars(axis: Any, probabilities: Mapping[str, float], value: str) -> None:
    """Draw the share of each value, the observed one in another colour."""
    texts = list(probabilities)
    colours = [ACCENT if text == value else COLOUR for text in texts]
    axis.bar(range(len(texts)), list(probabilities.values()), color=colours)
    step = -(-len(texts) // _MOST_TICKS)
    places = range(0, len(texts), step)
    axis.set_xticks(places, [shown(texts[place]) for place in places])
    if value in texts[::step]:
        axis.get_xticklabels()[texts[::step].index(value)].set_color(ACCENT)


def weights_plot(log_weights: Sequence[float]) -> str:
    """Return a histogram of log weights relative to the largest."""
    made = figure(4, 2.4)
    axis = made.subplots()
    largest = max(log_weights)
    finite = [w - largest for w in log_weights if w > float("-inf")]
    draw_histogram(axis, finite, bins=60)
    axis.set_yscale("log")
    axis.set_xlabel("log weight, relative to the largest, nats")
    axis.set_ylabel("particles")
    return svg(made)

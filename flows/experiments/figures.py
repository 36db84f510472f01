"""This file draws the figures from their numbers.

Each function takes the dictionary that stands in the figure's JSON file and returns a
matplotlib figure; nothing is computed here but places on paper.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

__all__ = [
    "draw_adjacency",
    "draw_deconvolution",
    "draw_digits",
    "draw_energies",
    "draw_evaluations",
    "draw_j_over_iterations",
    "draw_marginals",
    "draw_natural_steps",
]

_GREY = "gray"
_LEAST_GAP = 1e-5
"""Nats that a logarithmic axis ends with."""


def draw_marginals(numbers: Mapping[str, Any]) -> Figure:
    """Histograms of the model's and the flow's draws, per latent (figure 3)."""
    latents = numbers["latents"]
    columns = min(3, len(latents))
    rows = -(-len(latents) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, latent) in zip(axes, latents.items(), strict=False):
        ax.stairs(latent["model"], latent["edges"], fill=True, alpha=0.4, label="model")
        ax.stairs(latent["flow"], latent["edges"], color="black", label="flow")
        ax.set_title(f"{name}: KS {latent['ks']:.3f}")
    for ax in axes[len(latents) :]:
        ax.set_axis_off()
    axes[0].legend()
    return figure


def draw_j_over_iterations(
    iterations: Sequence[int], curves: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Median of J with each seed and their band, per curve (figures 4, 6 and D)."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    ax = figure.subplots()
    for name, curve in curves.items():
        colour = _draw_band(ax, iterations, curve["j"], name)
        for seed in curve["j_of_seeds"]:
            ax.plot(iterations[: len(seed)], seed, color=colour, linewidth=0.6)
    ax.set_yscale("log")
    ax.set_ylabel("J, symmetric KL (nats)")
    ax.set_xlabel("iteration")
    ax.legend()
    return figure


def draw_evaluations(
    iterations: Sequence[int], networks: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Solver evaluations in each direction over training (figure 5)."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, key, title in (
        (left, "to_latent", "base to latents"),
        (right, "to_base", "latents to base"),
    ):
        for name, network in networks.items():
            _draw_band(ax, iterations, network[key], name)
        ax.set_title(title)
        ax.set_xlabel("iteration")
    left.set_ylabel("solver evaluations")
    left.legend()
    return figure


def draw_adjacency(numbers: Mapping[str, Any]) -> Figure:
    """The inverse's edges: a row per latent, columns its parents (figure 8)."""
    figure = Figure(figsize=(7.0, 5.5), layout="constrained")
    ax = figure.subplots()
    ax.imshow(numbers["adjacency"], cmap="Greys", interpolation="nearest")
    ax.axvline(len(numbers["rows"]) - 0.5, color="tab:red", linewidth=0.8)
    ax.set_ylabel("latents, in sampling order")
    ax.set_xlabel("parents: latents, then observed")
    ax.set_title(
        f"{numbers['edges']} of {numbers['edges_of_a_full_acyclic_inverse']} edges"
    )
    return figure


def draw_deconvolution(numbers: Mapping[str, Any]) -> Figure:
    """Per patch: input, filter, output, samples, reconstructions (figure 9)."""
    examples = numbers["examples"]
    rows = len(examples["inputs"])
    samples = len(examples["samples"][0])
    figure = Figure(figsize=(1.0 * (3 + 2 * samples), 1.05 * rows))
    axes = figure.subplots(rows, 3 + 2 * samples, squeeze=False)
    for row in range(rows):
        images = [examples[key][row] for key in ("inputs", "filters", "outputs")]
        images += examples["samples"][row] + examples["reconstructions"][row]
        names = ["input", "filter", "output"]
        names += [f"sample {n + 1}" for n in range(samples)]
        names += [f"conv {n + 1}" for n in range(samples)]
        for ax, image, name in zip(axes[row], images, names, strict=True):
            ax.imshow(image, cmap=_GREY)
            ax.set_axis_off()
            if row == 0:
                ax.set_title(name, fontsize=8)
    return figure


def draw_energies(numbers: Mapping[str, Any]) -> Figure:
    """A row per energy: its density, then that of each flow with its KL."""
    energies = numbers["energies"]
    across, up = numbers["extent"]
    first = next(iter(energies.values()))
    columns = 1 + len(first["flows"])
    figure = Figure(figsize=(1.7 * columns, 2.6 * len(energies)), layout="constrained")
    axes = figure.subplots(len(energies), columns, squeeze=False)
    for row, (name, energy) in enumerate(energies.items()):
        titles = {f"exp(-{name})": energy["density"]}
        for flow, found in energy["flows"].items():
            titles[f"{flow}\nKL {found['kl']:.3g}"] = found["density"]
        for ax, (title, density) in zip(axes[row], titles.items(), strict=True):
            ax.imshow(density, origin="lower", extent=(-across, across, -up, up))
            ax.set_title(title, fontsize=8)
            ax.set_axis_off()
    return figure


def draw_natural_steps(numbers: Mapping[str, Any]) -> Figure:
    """A row per program: the gap to the best bound over iterations and seconds."""
    programs = numbers["programs"]
    figure = Figure(figsize=(8.0, 2.8 * len(programs)), layout="constrained")
    axes = figure.subplots(len(programs), 2, squeeze=False, sharey="row")
    for row, (name, found) in enumerate(programs.items()):
        ways = {key: found[key] for key in ("natural", "plain")}
        best = max(each["bound"] for way in ways.values() for each in way)
        for ax, key in zip(axes[row], ("iteration", "seconds"), strict=True):
            for way, heights in ways.items():
                gaps = [max(best - each["bound"], _LEAST_GAP) for each in heights]
                ax.plot([each[key] for each in heights], gaps, label=way)
            ax.set_yscale("log")
            ax.set_xscale("symlog", linthresh=1.0 if key == "iteration" else 0.01)
            ax.set_xlim(left=0.0)
            ax.set_xlabel(key)
        axes[row][0].set_ylabel(f"{name}: nats below the best")
    axes[0][0].legend()
    return figure


def draw_digits(numbers: Mapping[str, Any]) -> Figure:
    """Nats that bounds lack over particles, beside what the latents decode to."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, posterior in numbers["posteriors"].items():
        gaps = posterior["gaps"]
        left.errorbar(
            [each["particles"] for each in gaps],
            [each["mean"] for each in gaps],
            [each["standard_error"] for each in gaps],
            label=name,
        )
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("particles")
    left.set_ylabel("nats below log p(x) of a held-out image")
    left.legend()
    decoded = numbers["decoded"]
    across, size = math.isqrt(len(decoded)), math.isqrt(len(decoded[0]))
    rows = [
        [value for image in decoded[at : at + across] for value in image[start:][:size]]
        for at in range(0, len(decoded), across)
        for start in range(0, size * size, size)
    ]
    right.imshow(rows, cmap=_GREY)
    right.set_axis_off()
    return figure


def _draw_band(
    ax: Axes, iterations: Sequence[int], bands: Sequence[Mapping[str, float]], name: str
) -> ColorType:
    """Draw medians and a band around them; the colour that they have."""
    iterations = iterations[: len(bands)]
    (line,) = ax.plot(iterations, [b["median"] for b in bands], label=name)
    low, high = ([b[key] for b in bands] for key in ("low", "high"))
    colour: ColorType = line.get_color()
    ax.fill_between(iterations, low, high, alpha=0.25, color=colour)
    return colour

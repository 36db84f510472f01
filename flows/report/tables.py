"""This file lays figures out as tables that a person can read."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from daphne_bridge.errors import printable

from ..measurement.evaluation import PROPOSAL_FIGURES
from .words import (
    LATENT_KEYS,
    calibration_in_words,
    estimate,
    evidence_in_words,
    j_in_words,
    most_probable,
    number,
)

__all__ = [
    "add_figure_columns",
    "add_most_rows",
    "as_text",
    "cells",
    "chances_in_lines",
    "diagnosis_table",
    "evaluation_table",
    "posterior_table",
]

_KS_BAND = 1.63
"""99 % quantile of Kolmogorov's distribution: times √(2 / n), that of the statistic of
two equal samples of n."""

_MOST_ROWS = 60
_MOST_CHANCES = 12
"""Evidence and cautions stand below them, and are to be seen."""
_TEXT_WIDTH = 110


def cells(*texts: str) -> tuple[Text, ...]:
    """Return texts as they stand: no markup, control characters as escapes."""
    return tuple(Text(printable(text)) for text in texts)


def add_most_rows(
    table: Table, rows: Sequence[Sequence[str]], noun: str = "more"
) -> None:
    """Add the first of many rows to a table, and say how many more there are."""
    for row in rows[:_MOST_ROWS]:
        table.add_row(*cells(*row))
    if len(rows) > _MOST_ROWS:
        table.add_row(*cells(f"... and {len(rows) - _MOST_ROWS} {noun}"))


def add_figure_columns(
    table: Table, names: Sequence[str], figures: Sequence[str]
) -> None:
    """Add columns of names, folded for want of room, and of figures, never cut."""
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)


def chances_in_lines(chances: Mapping[str, Mapping[str, float]]) -> tuple[Text, ...]:
    """Return a line for each discrete number: its values, and how probable they are."""
    shown = (
        f"{name}: "
        + ", ".join(f"{v}: {words}" for v, _, words in most_probable(each, 6))
        for name, each in list(chances.items())[:_MOST_CHANCES]
    )
    more = len(chances) - _MOST_CHANCES
    return cells(*shown, *([f"... and {more} more by --json"] if more > 0 else []))


def as_text(table: RenderableType) -> str:
    """Return a table as text."""
    console = Console(width=_TEXT_WIDTH, record=True, file=io.StringIO())
    console.print(table, highlight=False)
    return console.export_text()


def posterior_table(summary: Mapping[str, Any]) -> RenderableType:
    """Return the posterior of every latent, and how far to trust it.

    Args:
        summary: What `summary.json` holds.
    """
    title = escape(printable(f"posterior of {summary['model_name']}"))
    table = Table(title=title, title_justify="left")
    add_figure_columns(
        table, ("latent", "document"), ("mean", "± MC", "sd", "5 %", "95 %")
    )
    for latent in summary["latents"]:
        figures = estimate(latent, *LATENT_KEYS)
        table.add_row(*cells(latent["label"], latent["name"], *figures))
    lines: list[RenderableType] = []
    if not summary["ok"]:
        found = "; ".join(c["what"] for c in summary["cautions"])
        lines += cells(f"these figures cannot be trusted: {found}")
    lines.append(table)
    given = ", ".join(
        f"{name} = {value}" for name, value in list(summary["observed"].items())[:8]
    )
    more = len(summary["observed"]) - 8
    ending = f" and {more} more" if more > 0 else ""
    lines += chances_in_lines(summary.get("probabilities", {}))
    lines += cells(f"observed      {given}{ending}")
    lines += cells(f"log evidence  {evidence_in_words(summary)}")
    lines += cells(
        f"ESS / N       {number(summary['ess_fraction'], 3)} of "
        f"{summary['num_particles']} particles from the {summary['proposal']}",
        f"Pareto k-hat  {number(summary['k_hat'], 3)}",
        *(
            f"caution: {c['what']}: {c['meaning']}. {c['remedy']}."
            for c in summary["cautions"]
        ),
    )
    return Group(*lines)


def evaluation_table(evaluation: Mapping[str, Any]) -> RenderableType:
    """Return the figures of `evaluate` as a table.

    Args:
        evaluation: What `evaluation.json` holds.
    """
    config = evaluation["config"]
    table = Table(title="the flow as a proposal", title_justify="left")
    for heading in ("figure", "value", "over"):
        table.add_column(heading)
    draws = f"{config['num_draws']} joint draws each way"
    for key, name in (
        ("symmetric", "J, symmetric KL"),
        ("forward", "forward KL + const"),
        ("reverse", "reverse KL - const"),
    ):
        part = evaluation["j"][key]
        value = f"{number(part['mean'])} ± {number(part['standard_error'], 2)} nats"
        if part["num_non_finite"]:
            value += f" ({part['num_non_finite']} not finite)"
        if key == "symmetric":
            value += f": {j_in_words(part['mean'], evaluation['flow']['ess_median'])}"
        table.add_row(*cells(name, value, draws))
    symmetric = evaluation["j"]["symmetric"]
    table.add_row(
        *cells(
            "J, median of means", f"{number(symmetric['median_of_means'])} nats", draws
        )
    )
    sets = f"{config['num_data_sets']} data sets, N = {config['num_particles']}"
    for key, name in PROPOSAL_FIGURES:
        flow, prior = (number(evaluation[of][key], 3) for of in ("flow", "prior"))
        table.add_row(*cells(name, f"{flow}; of the prior {prior}", sets))
    latents = evaluation["latents"]
    worst = max(latents, key=lambda latent: latent["ks"])
    table.add_row(
        *cells("KS of marginals, worst", f"{worst['ks']:.3f} ({worst['name']})", draws)
    )
    table.add_row(*cells("calibration ranks", calibration_in_words(latents), sets))
    if evaluation["multiply_adds"]:  # of kinds with a vector field
        table.add_row(
            *cells(
                "field evaluations",
                f"{evaluation['evaluations_base_to_latent']} to draw, "
                f"{evaluation['evaluations_latent_to_base']} to score",
                f"{evaluation['multiply_adds']} multiply-adds each",
            )
        )
    table.add_row(*cells("parameters", str(evaluation["num_parameters"]), ""))
    return table


def diagnosis_table(diagnosis: Mapping[str, Any]) -> RenderableType:
    """Return the figures of `diagnose` as a table.

    Args:
        diagnosis: What `diagnosis.json` holds.
    """
    config = diagnosis["config"]
    table = Table(title="where the flow is wrong", title_justify="left")
    for heading in ("figure", "value"):
        table.add_column(heading)
    ess = sorted(diagnosis["ess_fractions"])
    table.add_row(
        *cells("data sets", f"{config['num_data_sets']}, N = {config['num_particles']}")
    )
    table.add_row(*cells("ESS / N, median", number(ess[len(ess) // 2], 3)))
    table.add_row(*cells("ESS / N, worst", number(ess[0], 3)))
    high = sum(k is not None and k > 0.7 for k in diagnosis["k_hats"])
    table.add_row(*cells("Pareto k-hat above 0.7", f"{high} data sets"))
    latents = diagnosis["latents"]
    worst = max(latents, key=lambda latent: latent["ks"])
    table.add_row(
        *cells(
            "KS of marginals, worst",
            f"{worst['ks']:.3f} ({worst['name']}); by chance up to "
            f"{min(1.0, _KS_BAND * math.sqrt(2 / config['num_data_sets'])):.2f}",
        )
    )
    for name, key in (
        ("calibration ranks", "is_calibrated"),
        ("  of weighted draws", "is_weighted_calibrated"),
    ):
        table.add_row(*cells(name, calibration_in_words(latents, key)))
    weak = sorted(
        diagnosis["nodes"],
        key=lambda node: node["median_variance"] or 0.0,
        reverse=True,
    )
    table.add_row(
        *cells(
            "variance of log weights, median (mean)",
            f"{number(diagnosis['median_log_weight_variance'], 3)} "
            f"({number(diagnosis['log_weight_variance'], 3)}) nats²",
        )
    )
    for node in weak[:5]:
        both = (number(node[key], 3) for key in ("median_variance", "variance"))
        table.add_row(*cells(f"  of it {node['name']}", "{} ({})".format(*both)))
    predictive = diagnosis["predictive"]
    for new in [] if predictive is None else _least_predicted(predictive):
        table.add_row(
            *cells(
                f"new data below {new['name']} = {number(new['observed'])}",
                f"{new['level']:.1%} of {predictive['num_draws']}",
            )
        )
    return table


def _least_predicted(predictive: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the few numbers that lie furthest out in what is predicted of them.

    Categories lie nowhere: they have no order.
    """
    placed = [n for n in predictive["numbers"] if n["level"] is not None]
    return sorted(placed, key=lambda n: min(n["level"], 1 - n["level"]))[:5]

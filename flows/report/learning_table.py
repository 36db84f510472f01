"""This file lays out what `learn` has learned as a table that a person can read."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from .tables import add_figure_columns, add_most_rows, cells
from .words import number

__all__ = ["learning_table"]


def learning_table(learned: Mapping[str, Any]) -> RenderableType:
    """Return the figures of every parameter.

    Args:
        learned: What `Learned.to_json` returns.
    """
    lines: list[RenderableType] = []
    if not learned["ok"]:
        lines += cells("these parameters cannot be trusted: see the cautions below")
    lines += cells(f"method          {learned['method']}: {learned['why']}")
    parameters = learned["parameters"]
    has_posterior = any(figures["posterior"] for figures in parameters.values())
    table = Table(title="parameters", title_justify="left")
    posterior = ("mean", "sd", "5 %", "95 %") if has_posterior else ()
    add_figure_columns(table, ("",), ("learned", "± error", "± MC", *posterior))
    rows = []
    for name, figures in parameters.items():
        own = figures["posterior"] or {}
        row = (
            name,
            number(figures["value"], 5),
            number(figures["standard_error"], 2),
            number(figures["mc_error"], 2),
            *(number(own.get(key)) for key in ("mean", "sd", "q05", "q95")),
        )
        rows.append(row[: len(table.columns)])
    add_most_rows(table, rows)
    ess = learned["ess"]
    said = cells(
        f"log likelihood  {number(learned['log_likelihood'], 7)} nats of "
        f"{learned['num_rows']} rows, log prior {number(learned['log_prior'], 4)}",
        f"errors          from the {learned['errors_from']}"
        if learned["errors_from"] != "not known"
        else "errors          not known",
        *(
            ()
            if learned["method"] == "exact"
            else (
                f"ESS             {number(ess['median'], 3)} of "
                f"{learned['num_draws']} draws in the middle row, "
                f"{number(ess['q05'], 3)} in the 5 % quantile",
            )
        ),
        *(f"caution: {caution}" for caution in learned["cautions"]),
    )
    return Group(*lines, table, *said)

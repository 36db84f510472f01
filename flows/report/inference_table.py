"""This file lays an answer of `infer` out as a table that a person can read."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from daphne_bridge.errors import printable

from .tables import add_figure_columns, add_most_rows, cells, chances_in_lines
from .words import draws_in_words, estimate, number

__all__ = ["inference_table", "leaves"]


def inference_table(answer: Mapping[str, Any], title: str) -> RenderableType:
    """Return the figures of every latent and of the return value.

    Args:
        answer: What `Inference.to_json` returns.
        title: What the answer is of.
    """
    lines: list[RenderableType] = []
    if not answer["ok"]:
        # What was found, without what it means and what to do, which stand below.
        found = "; ".join(each.split(": ")[0] for each in answer["cautions"])
        lines += cells(f"this answer cannot be trusted: {found}")
    lines += cells(f"method        {answer['method']}: {answer['why']}")
    table = Table(
        title=escape(printable(f"posterior of {title}")), title_justify="left"
    )
    latents, returned = answer["latents"], list(leaves(answer["return"], "return"))
    # A return value that only repeats latents is not shown twice.
    known = list(latents.values())
    returned = [leaf for leaf in returned if leaf[1] not in known]
    add_figure_columns(table, ("",), ("mean", "± MC", "sd", "5 %", "median", "95 %"))
    add_most_rows(table, [_row(*each) for each in latents.items()], "more latents")
    texts = [leaf for leaf in returned if isinstance(leaf[1], str)]
    numbers = [leaf for leaf in returned if leaf not in texts]
    if numbers:
        table.add_section()
    add_most_rows(table, [_row(*each) for each in numbers])
    lines.append(table)
    lines += cells(*(f"{name}: {text}" for name, text in texts))
    lines += chances_in_lines(dict(_chances([*latents.items(), *returned])))
    evidence = answer["log_evidence"]
    lines += cells(
        f"log evidence  {number(evidence['value'], 7)} ± "
        f"{number(evidence['standard_error'], 2)} nats",
        f"ESS           {draws_in_words(answer['ess'])} of {answer['num_particles']} "
        "particles"
        + (f", Pareto k-hat {answer['khat']:.2f}" if answer["khat"] else ""),
        *_islands(answer.get("tempering")),
        *(f"caution: {caution}" for caution in answer["cautions"]),
    )
    return Group(*lines)


def _islands(tempering: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what tempered islands disagree in; nothing of another answer."""
    if tempering is None:
        return ()
    apart, islands = tempering["disagreement"], tempering["islands"]
    nums = " and ".join(str(len(island["path"])) for island in islands)
    gaps = "1, compared with no other"
    if len(islands) > 1:
        evidence = number(apart["log_evidence"], 2)
        mean = number(apart["mean_in_standard_errors"], 2)
        gaps = (
            f"{len(islands)}, apart {evidence} nats in the log evidence and at most "
            f"{mean} standard errors in a mean"
        )
    return (
        f"islands       {gaps}",
        f"              {nums} temperatures, {tempering['coordinates']} coordinates",
    )


def _row(name: str, figures: Any) -> tuple[str, ...]:
    if isinstance(figures, float):
        return name, number(figures, 5)
    if not isinstance(figures, Mapping):
        return name, json.dumps(figures)
    return name, *estimate(figures, "mean", "mc_error", "sd", "q05", "median", "q95")


def _chances(
    figures_of: Iterable[tuple[str, Any]],
) -> Iterator[tuple[str, Mapping[str, float]]]:
    for name, figures in figures_of:
        if isinstance(figures, Mapping) and figures.get("probabilities"):
            yield name, figures["probabilities"]


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a return value with its path."""
    if isinstance(value, Mapping) and "mc_error" not in value:
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from leaves(item, f"{name}[{place}]")
    elif value is not None:
        yield name, value

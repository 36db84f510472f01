"""This file prepares what a page says of an answer of `infer`."""

from collections.abc import Mapping
from typing import Any

from .finished_run import FinishedRun
from .inference_table import leaves
from .words import number

__all__ = ["answer_section"]

_MOST_NUMBERS = 200
_MOST_VALUES = 20
_PLACES = ("inference.json", "answer/inference.json")


def answer_section(run: FinishedRun) -> dict[str, Any] | None:
    """Return figures of latents and return value, with bars where they are discrete."""
    answer = next((a for a in map(run.json, _PLACES) if a is not None), None)
    if answer is None:
        return None
    figures = [
        *answer["latents"].items(),
        *leaves(answer["return"], "return"),
    ][:_MOST_NUMBERS]
    known = [(n, f) for n, f in figures if isinstance(f, Mapping)]
    keys = ("sd", "q05", "median", "q95")
    evidence = answer["log_evidence"]
    return {
        "method": f"{answer['method']}: {answer['why']}",
        "ok": answer["ok"],
        "cautions": answer["cautions"],
        "numbers": [
            (
                name,
                number(f["mean"], 5),
                number(f["mc_error"], 2),
                *(number(f[key]) for key in keys),
            )
            for name, f in known
            if f["mean"] is not None
        ],
        "bars": [
            (name, _most_probable(f["probabilities"]))
            for name, f in known
            if f.get("probabilities")
        ],
        "figures": [
            (
                "log evidence",
                f"{number(evidence['value'], 7)} ± "
                f"{number(evidence['standard_error'], 2)} nats",
            ),
            ("ESS", f"{number(answer['ess'], 4)} of {answer['num_particles']}"),
            ("Pareto k-hat", number(answer["khat"], 3)),
        ],
    }


def _most_probable(chances: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """Return the most probable values in the order of the file, and what is left."""
    kept = sorted(chances, key=lambda value: -chances[value])[:_MOST_VALUES]
    rows = [(value, p, number(p, 3)) for value, p in chances.items() if value in kept]
    rest = sum(p for value, p in chances.items() if value not in kept)
    return [*rows, ("others", rest, number(rest, 3))] if rest else rows

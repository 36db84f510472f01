"""This file says figures in words, the same in tables, on pages and on last lines."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "IMPOSSIBLE_J",
    "LATENT_KEYS",
    "calibration_in_words",
    "draws_in_words",
    "estimate",
    "evidence_in_words",
    "is_impossible_j",
    "j_in_words",
    "most_probable",
    "number",
]

LATENT_KEYS = ("mean", "mean_standard_error", "sd", "quantile_05", "quantile_95")
"""What `summary.json` says of a latent, as `estimate` takes it."""

_J_SCALE = (
    (0.1, "the flow is close to the posterior"),
    (1.0, "a good proposal: weights correct the rest"),
    (3.0, "a usable proposal: expect a few per cent of ESS"),
    (8.0, "a poor proposal: expect ESS below one per cent, train longer"),
)
_GOOD_ESS = 0.1
_BELOW = 2.0
"""Standard errors below 0, where J cannot be."""
_LEAST_BELOW, _MOST_BELOW = 0.01, 0.1
"""Nats: so little is rounding and chance, so much none, whatever the error."""
IMPOSSIBLE_J = (
    "which cannot be below 0: most likely the model draws values where doubles end, "
    "whose densities are not what they say, and the flow misses that mass"
)
_J_BEYOND = "this flow is useless for typical data, train longer"


def number(value: Any, digits: int = 4) -> str:
    """Return a number with so many digits, and a dash for what is not known.

    Example:
        >>> number(3.14159, 3), number(math.nan), number("red")
        ('3.14', '-', 'red')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, int | float) else str(value)


def draws_in_words(ess: float | None) -> str:
    """Return an effective sample size: no exponent, no decimals where it is large.

    Example:
        >>> draws_in_words(12345.6), draws_in_words(12.3456), draws_in_words(None)
        ('12346', '12.35', '-')
    """
    return number(ess) if ess is None or ess < 1000 else f"{ess:.0f}"


def estimate(
    figures: Mapping[str, Any], value: str, error: str, *others: str
) -> tuple[str, ...]:
    """Return a figure, its error, and what else is known of it, in fitting digits.

    Args:
        figures: Numbers by name.
        value: Name of the figure.
        error: Name of its error.
        *others: Names of others.

    Example:
        >>> estimate({"mean": 3.14159265, "se": 0.0123, "sd": 2.0}, "mean", "se", "sd")
        ('3.1416', '0.012', '2')
    """
    rest = (number(figures[name]) for name in others)
    return number(figures[value], 5), number(figures[error], 2), *rest


def is_impossible_j(nats: float, error: float = math.inf) -> bool:
    """Return whether J is below 0 by more than chance explains.

    Args:
        nats: J.
        error: Its standard error, if it is known.

    Example:
        >>> is_impossible_j(-0.05), is_impossible_j(-0.05, 0.01)
        (False, True)
    """
    return -nats > max(_LEAST_BELOW, min(_BELOW * error, _MOST_BELOW))


def j_in_words(nats: float | None, ess: float | None = None) -> str:
    """Return what a symmetric KL means for draws from the flow.

    J is the mean of both directions. By Jensen's inequality log E_q[(p/q)²] is at
    least KL(p‖q), so that ESS / N of typical data is about exp(-J) or less; where it is
    much more, a few draws that are far off make J.

    Args:
        nats: J; None or not a number if no estimate was finite.
        ess: Median ESS / N over data sets, if it is known.

    Example:
        >>> j_in_words(737.0)
        'this flow is useless for typical data, train longer'
    """
    if nats is None or nats != nats:
        return "not known: no estimate was finite"
    if is_impossible_j(nats):
        return IMPOSSIBLE_J
    if ess is not None and ess >= _GOOD_ESS and nats > _J_SCALE[2][0]:
        return f"rare draws are far off; half of all data have ESS/N {ess:.2f} or more"
    return next((words for most, words in _J_SCALE if nats <= most), _J_BEYOND)


def calibration_in_words(
    latents: Iterable[Mapping[str, Any]], key: str = "is_calibrated"
) -> str:
    """Return whether the ranks of all latents stay inside their joint band.

    Args:
        latents: Entries of `evaluation.json` or `diagnosis.json`.
        key: Of the judgement, which is None where there were too few data sets.
    """
    judged = [(latent["name"], latent[key]) for latent in latents]
    wrong = [name for name, inside in judged if inside is False]
    if wrong:
        return f"outside: {', '.join(wrong[:6])}"
    if any(inside is None for _, inside in judged):
        return "not judged: too few data sets"
    return "inside the 99 % band"


def evidence_in_words(summary: Mapping[str, Any]) -> str:
    """Return the log evidence of a `summary.json` with its error."""
    error = summary["log_evidence_standard_error"]
    known = "nats, ± not known" if error is None else f"± {number(error, 2)} nats"
    return f"{number(summary['log_evidence'], 6)} {known}"


def most_probable(
    chances: Mapping[str, float], most: int = 20
) -> list[tuple[str, float, str]]:
    """Return the most probable values in the order of the file, and what is left."""
    kept = sorted(chances, key=lambda value: -chances[value])[:most]
    rows = [(value, p, number(p, 3)) for value, p in chances.items() if value in kept]
    rest = sum(p for value, p in chances.items() if value not in kept)
    return [*rows, ("others", rest, number(rest, 3))] if rest else rows

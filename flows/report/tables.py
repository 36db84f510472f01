"""This file lays figures out as tables that a person can read."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from daphne_bridge.errors import printable

from ..measurement.evaluation import PROPOSAL_FIGURES

__all__ = ["cells", "diagnosis_table", "evaluation_table", "posterior_table"]


def cells(*texts: str) -> tuple[Text, ...]:
    """Return texts as they stand: no markup, control characters as escapes."""
    return tuple(Text(printable(text)) for text in texts)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def posterior_table(summary: Mapping[str, Any]) -> RenderableType:
    """Return the posterior of every latent, and how far to trust it.

    Args:
        summary: What `summary.json` holds.
    """
    title = escape(printable(f"posterior of {summary['model_name']}"))
    table = Table(title=title, title_justify="left")
    for heading in ("latent", "document", "mean", "± MC", "sd", "5 %", "95 %"):
        is_text = heading in ("latent", "document")
        table.add_column(heading, justify="left" if is_text else "right")
    for latent in summary["latents"]:
        table.add_row(
            *cells(
                latent["label"],
                latent["name"],
                _number(latent["mean"], 5),
                _number(latent["mean_standard_error"], 2),
                _number(latent["sd"]),
                _number(latent["quantile_05"]),
                _number(latent["quantile_95"]),
            )
        )
    lines: list[RenderableType] = [table]
    given = ", ".join(
        f"{name} = {value}" for name, value in list(summary["observed"].items())[:8]
    )
    more = len(summary["observed"]) - 8
    ending = f" and {more} more" if more > 0 else ""
    lines += cells(f"observed      {given}{ending}")
    error = summary["log_evidence_standard_error"]
    known = "nats, ± not known" if error is None else f"± {_number(error, 2)} nats"
    lines += cells(f"log evidence  {_number(summary['log_evidence'], 6)} {known}")
    lines += cells(
        f"ESS / N       {_number(summary['ess_fraction'], 3)} of "
        f"{summary['num_particles']} particles from the {summary['proposal']}",
        f"Pareto k-hat  {_number(summary['k_hat'], 3)}",
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
        value = f"{_number(part['mean'])} ± {_number(part['standard_error'], 2)} nats"
        if part["num_non_finite"]:
            value += f" ({part['num_non_finite']} not finite)"
        table.add_row(*cells(name, value, draws))
    symmetric = evaluation["j"]["symmetric"]
    table.add_row(
        *cells(
            "J, median of means", f"{_number(symmetric['median_of_means'])} nats", draws
        )
    )
    sets = f"{config['num_data_sets']} data sets, N = {config['num_particles']}"
    for key, name in PROPOSAL_FIGURES:
        flow, prior = (_number(evaluation[of][key], 3) for of in ("flow", "prior"))
        table.add_row(*cells(name, f"{flow}; of the prior {prior}", sets))
    latents = evaluation["latents"]
    worst = max(latents, key=lambda latent: latent["ks"])
    table.add_row(
        *cells("KS of marginals, worst", f"{worst['ks']:.3f} ({worst['name']})", draws)
    )
    wrong = [latent["name"] for latent in latents if not latent["is_calibrated"]]
    table.add_row(
        *cells(
            "calibration ranks",
            "inside the 99 % band" if not wrong else f"outside: {', '.join(wrong[:6])}",
            sets,
        )
    )
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
    table.add_row(*cells("ESS / N, median", _number(ess[len(ess) // 2], 3)))
    table.add_row(*cells("ESS / N, worst", _number(ess[0], 3)))
    high = sum(k is not None and k > 0.7 for k in diagnosis["k_hats"])
    table.add_row(*cells("Pareto k-hat above 0.7", f"{high} data sets"))
    latents = diagnosis["latents"]
    worst = max(latents, key=lambda latent: latent["ks"])
    table.add_row(
        *cells("KS of marginals, worst", f"{worst['ks']:.3f} ({worst['name']})")
    )
    wrong = [latent["name"] for latent in latents if not latent["is_calibrated"]]
    table.add_row(
        *cells(
            "calibration ranks",
            "inside the 99 % band" if not wrong else f"outside: {', '.join(wrong[:6])}",
        )
    )
    wrong = [
        latent["name"] for latent in latents if not latent["is_weighted_calibrated"]
    ]
    table.add_row(
        *cells(
            "  of weighted draws",
            "inside the 99 % band" if not wrong else f"outside: {', '.join(wrong[:6])}",
        )
    )
    weak = sorted(
        diagnosis["nodes"],
        key=lambda node: node["median_variance"] or 0.0,
        reverse=True,
    )
    table.add_row(
        *cells(
            "variance of log weights, median (mean)",
            f"{_number(diagnosis['median_log_weight_variance'], 3)} "
            f"({_number(diagnosis['log_weight_variance'], 3)}) nats²",
        )
    )
    for node in weak[:5]:
        both = (_number(node[key], 3) for key in ("median_variance", "variance"))
        table.add_row(*cells(f"  of it {node['name']}", "{} ({})".format(*both)))
    predictive = diagnosis["predictive"]
    for number in [] if predictive is None else _least_predicted(predictive):
        table.add_row(
            *cells(
                f"new data below {number['name']} = {_number(number['observed'])}",
                f"{number['level']:.1%} of {predictive['num_draws']}",
            )
        )
    return table


def _least_predicted(predictive: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the few numbers that lie furthest out in what is predicted of them."""
    return sorted(predictive["numbers"], key=lambda n: min(n["level"], 1 - n["level"]))[
        :5
    ]

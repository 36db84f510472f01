"""This file sets the figures' numbers beside what the paper states."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["claims_table"]


def claims_table(results: Mapping[str, Any]) -> str:
    """Return a Markdown table of claims for the figures that were made.

    Args:
        results: numbers by figure's name.
    """
    rows = []
    if "fig3" in results:
        rows += _marginals(results["fig3"])
    if "fig4" in results:
        rows += _structures(results["fig4"])
    if "fig6" in results:
        rows += _objectives(results["fig6"])
    if "fig9" in results:
        rows += _deconvolution(results["fig9"])
    if "fig_finite" in results:
        rows += _energies(results["fig_finite"])
    if "fig_sin" in results:
        rows += _natural_steps(results["fig_sin"])
    if "fig_digits" in results:
        rows += _digits(results["fig_digits"])
    lines = []
    if any(numbers.get("length") == "fast" for numbers in results.values()):
        lines += ["Fast version: far shorter runs than the paper's.", ""]
    lines += ["| claim | paper | here |", "|---|---|---|"]
    lines += [f"| {claim} | {paper} | {here} |" for claim, paper, here in rows]
    return "\n".join(lines) + "\n"


def _marginals(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    worst = max(latent["ks"] for latent in numbers["latents"].values())
    limit = numbers["ks_99_percent_if_equal"]
    return [
        (
            "J of the arithmetic circuit",
            "about 0.1 nats",
            f"{numbers['j']:.3g} ± {numbers['j_standard_error']:.2g} nats after "
            f"{numbers['training_seconds']:.0f} s of training",
        ),
        (
            "marginals of q(z given x) p(x) are the prior's",
            "figure 3",
            f"largest KS statistic {worst:.3f} (99 % of equal samples stay below "
            f"{limit:.3f})",
        ),
    ]


def _structures(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    networks = numbers["networks"]

    def listed(key: str) -> str:
        return ", ".join(f"{name} {net[key]:,}" for name, net in networks.items())

    def last(key: str) -> str:
        return ", ".join(
            _last(name, numbers, net[key]) for name, net in networks.items()
        )

    iteration = numbers["iterations"][-1]
    published = numbers["published_faithful_parameters"]
    return [
        (
            "parameters",
            "faithful 7,725, less than half of full 18,679 and FFJORD 17,801",
            f"{listed('parameters')}; faithful as the paper counts it {published:,}",
        ),
        (
            "multiply-adds per evaluation",
            "faithful less than half",
            listed("multiply_adds"),
        ),
        (
            f"J after {iteration} iterations (median)",
            "faithful about 0.1 after 10,000",
            last("j"),
        ),
        (
            f"solver evaluations to draw, after {iteration} iterations",
            "faithful fewest",
            last("to_latent"),
        ),
        (
            f"solver evaluations to score, after {iteration} iterations",
            "faithful fewest",
            last("to_base"),
        ),
    ]


def _objectives(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    here = ", ".join(
        _last(name, numbers, curve["j"])
        for name, curve in numbers["objectives"].items()
    )
    return [
        (
            f"J by objective after {numbers['iterations'][-1]} iterations, 5 nuisances",
            "forward alone stalls near 100 nats, symmetric below 10",
            here,
        )
    ]


def _last(
    name: str, numbers: Mapping[str, Any], curve: Sequence[Mapping[str, float]]
) -> str:
    """The end of a curve, with its iteration if that is not the last one."""
    reached, end = numbers["iterations"][len(curve) - 1], numbers["iterations"][-1]
    early = "" if reached == end else f" (after {reached})"
    return f"{name} {curve[-1]['median']:.3g}{early}"


def _deconvolution(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    value = numbers["mean_squared_error_over_variance"]
    error = numbers["its_standard_error"]
    return [
        (
            "deconvolution: mean (conv(z) - x)² / sd² over held-out patches",
            "1 for the exact posterior",
            f"{value:.3f} ± {error:.2g} after {numbers['iterations']} iterations",
        )
    ]


def _energies(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (
            f"KL to exp(-{name}) falls with the length",
            "Rezende and Mohamed, figure 3",
            ", ".join(
                f"{flow} {found['kl']:.3g}" for flow, found in energy["flows"].items()
            ),
        )
        for name, energy in numbers["energies"].items()
    ]


def _natural_steps(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name, found in numbers["programs"].items():
        plain, first = found["plain"][-1], found["natural_reaches"]
        rows.append(
            (
                f"{name}: bound of {plain['iteration']} plain gradient steps",
                "fewer natural steps (Lin, Hubacher, Khan)",
                f"plain {found['plain_reaches']:.4f} in {plain['seconds']:.3g} s; "
                f"natural {first['bound']:.4f} after {first['iteration']} steps, "
                f"{first['seconds']:.2g} s",
            )
        )
    return rows


def _digits(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    gaps = {name: each["gaps"][0] for name, each in numbers["posteriors"].items()}
    return [
        (
            "bound of a held-out digit, nats below log p(x)",
            "falls with the length of the flow (Rezende and Mohamed, figure 4)",
            ", ".join(
                f"{name} {gap['mean']:.3f} ± {gap['standard_error']:.3f}"
                for name, gap in gaps.items()
            )
            + f"; log p(x) {numbers['log_evidence']:.2f}",
        )
    ]

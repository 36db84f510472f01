"""This file adds to a summary of particles what is not of one number per latent.

`probabilities` has those of each value of a discrete latent, by label; `return` the
return value in the program's own shape, with figures at its leaves, as `infer` has it.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..inference.particles import Particles
from ..inference.smc.result import SmcResult
from ..model.discrete_values import kind_of
from ..model.model import Model
from .answer import plain_value
from .figures import figures_of
from .question import returned_figures

__all__ = ["with_figures"]

_KEYS = {
    "mean": "mean",
    "mean_standard_error": "mc_error",
    "sd": "sd",
    "quantile_05": "q05",
    "median": "median",
    "quantile_95": "q95",
}
_MOST_ROWS = 2_000_000
"""Of more particles nothing is added: all would be held in memory."""


def with_figures(
    summary: Mapping[str, Any],
    model: Model,
    particles: Particles,
    observed: Float[Tensor, " observed"],
    smc: SmcResult | None = None,
) -> dict[str, Any]:
    """Return a summary with `probabilities` and `return`.

    A latent of a `categorical` has the figures of its values, none if these are no
    numbers.

    Args:
        summary: Plain values, as `posterior_json` returns them.
        model: What the particles are of.
        particles: Weighted values of its latents.
        observed: The data.
        smc: The run that they are of, which knows the errors of means.
    """
    found = {**summary, "probabilities": {}, "return": None}
    is_empty = particles.totals.log_sum == -math.inf
    if is_empty or particles.num_particles > _MOST_ROWS:
        return found
    latents = {each["label"]: each for each in summary["latents"]}
    for variable in model.layout.latents:
        kind, categories = kind_of(model, variable.name)
        if kind == "real":
            continue
        figures = figures_of(
            particles.latents[:, variable.start],
            particles.log_weights,
            mc_error=None if smc is None else math.nan,
            kind=kind,
            categories=categories,
        ).to_json()
        if "probabilities" in figures:
            found["probabilities"][variable.label] = figures["probabilities"]
        if categories:
            latents[variable.label] = {
                **latents[variable.label],
                **{theirs: figures[own] for theirs, own in _KEYS.items()},
            }
    found["latents"] = list(latents.values())
    found["return"] = plain_value(returned_figures(model, particles, observed, smc))
    return found

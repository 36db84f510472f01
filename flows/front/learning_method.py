"""This file chooses how `learn` averages over the latents of rows.

Exactly where none of them is continuous; by draws around the modes of each row where a
pilot finds that these serve; by draws of a flow otherwise.
"""

import math

import torch

from ..errors import ArgumentError
from ..inference.smc.result import run_seed
from ..learning.likelihood import Likelihood
from ..learning.modes import ModeDrawing, nats_missed
from ..learning.parted import prior_draws
from ..model.capabilities import listed
from .learning_doubts import MOST_MISSED

__all__ = ["LEARNING_METHODS", "method_for"]

LEARNING_METHODS = ("auto", "exact", "laplace", "flow")
"""What can be asked for."""

_PILOTS, _PILOT_ROWS, _PILOT_DRAWS = 16, 20, 64
_LEAST_SHARE = 0.3


def method_for(likelihood: Likelihood, method: str, seed: int) -> tuple[str, str]:
    """Return how latents of the rows are averaged over, and why.

    Args:
        likelihood: Of the rows.
        method: What is asked for.
        seed: Of the draws that decide.

    Raises:
        ArgumentError: If it cannot do what is asked.
    """
    parted = likelihood.parted
    if method not in LEARNING_METHODS:
        known = ", ".join(LEARNING_METHODS)
        raise ArgumentError.at("method", "unknown", f"one of {known}", method)
    left = [v.label for v in parted.target.layout.latents]
    if method == "exact" and left:
        what = f"continuous latents belong to a row: {listed(left)}"
        raise ArgumentError.at("method exact", what, "method laplace or flow")
    if method in ("laplace", "flow") and not left:
        what = "no continuous latent belongs to a row, so there is nothing to draw"
        raise ArgumentError.at(f"method {method}", what, "method exact")
    if not left:
        is_summed = bool(parted.rows.layout.latents)
        summed = "discrete latents are summed out"
        return "exact", summed if is_summed else "rows have no latents"
    means = f"average over {listed(left)}"
    if method == "auto":
        share, missed = _pilot(likelihood, seed)
        serves = share >= _LEAST_SHARE and missed < MOST_MISSED
        method = "laplace" if serves else "flow"
        means += f": of draws around a row's modes {100 * share:.0f} % are effective"
        if missed >= MOST_MISSED:
            means += ", but modes are missed"
    if method == "laplace":
        return method, f"draws around the modes of each row {means}"
    return method, f"draws of a flow {means}"


def _pilot(likelihood: Likelihood, seed: int) -> tuple[float, float]:
    """Return the effective share of draws around modes, and nats that they miss.

    The share is the 10 % quantile over rows. The parameters are those of a few draws of
    the prior under which rows are likeliest.
    """
    generator = torch.Generator().manual_seed(run_seed(seed, 1_000_014))
    parted = likelihood.parted
    some = Likelihood(parted, likelihood.data[:_PILOT_ROWS])
    drawing = ModeDrawing(parted)
    found = []
    for values in prior_draws(parted.prior, _PILOTS, generator):
        draws = drawing.draw(values, some.data, _PILOT_DRAWS, generator=generator)
        terms = some.terms(values, draws)
        share = float(terms.ess.quantile(0.1)) / _PILOT_DRAWS
        found.append((float(terms.log_likelihood.sum()), share, values))
    none = (-math.inf, 0.0, None)
    height, share, values = max(found, key=lambda each: each[0], default=none)
    if values is None or height == -math.inf:
        return 0.0, 0.0
    return share, nats_missed(some, values, generator=generator)

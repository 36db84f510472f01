r"""This file measures how far conditionals of latents are from linear normal ones.

    d_i = E[ log p(z_i | others, x) - log N(z_i; linear in others and x, constant sd) ]

over joint draws, in nats and free coordinates: what an affine layer loses on a latent
where the others are given. Of two latents in each other's Markov blanket it is better
to integrate out the one of the larger d: by the chain rule the rest then costs

    E log q(z_j | x) + E log p(z_i | z_j, x) = (that of both by an affine layer) + d_i.
"""

import math
import sys
from collections.abc import Iterator, Sequence

import networkx as nx
import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from ..flow.regression import Regression, residuals
from ..model.families.on_the_line import normal
from ..model.model import Model
from ..model.standard_normal import standard_normal_terms
from .conditionals import Conditional, blankets
from .linearity import normal_ones
from .lines import lines_of
from .linked import Linked

__all__ = ["departure_of_linked", "departures_from_linear_normal", "joint_rows"]

_DRAWS = 10_000
"""That regressions take."""
_EVALUATED = 256
"""Draws at which conditionals are evaluated."""
_LARGEST = 1e50
"""Of a draw that counts: sums of squares are numbers."""
_LEAST_SPREAD = 1e-12
"""Of a direction of linked latents beside the widest: below are roundings."""


def departures_from_linear_normal(
    model: Model, conditionals: Sequence[Conditional], rows: Float[Tensor, "row number"]
) -> dict[str, float]:
    """Return the departure of each conditional by the name of its latent, in nats.

    It is below 0 where a conditional's grid is worse than an affine layer.

    Args:
        model: The model, of continuous latents.
        conditionals: Of some of them, each given all others.
        rows: As `joint_rows` gives them.
    """
    size, few = model.layout.free_dim, rows[:_EVALUATED]
    found: dict[str, float] = {}
    normals = normal_ones(model.graph, conditionals)
    for group in _apart(conditionals):
        for lines in lines_of(model, group, normals):
            densities = lines.densities(few[:, :size], few[:, size:])
            own = densities.log_prob(few[:, lines.columns, None])[..., 0]
            for place, each in enumerate(lines.conditionals):
                columns = [lines.columns[place], *_read(model, each)]
                affine = _log_normal(rows[:, columns])
                nats = own[:, place] - affine[: len(few)]
                mean_nats = float(nats.nanmean())
                found[each.name] = mean_nats if math.isfinite(mean_nats) else -math.inf
    return found


def departure_of_linked(
    model: Model, linked: Linked, rows: Float[Tensor, "row number"]
) -> float:
    """Return what an affine layer loses on linked latents given all others, in nats.

    Args:
        model: The model, of continuous latents.
        linked: Some of them.
        rows: As `joint_rows` gives them.
    """
    size, columns = model.layout.free_dim, linked.columns
    few = rows[:_EVALUATED]
    is_known = torch.ones(len(columns), dtype=torch.bool)
    free, data = few[:, :size], few[:, size:]
    _, own = linked.completed(free, data, free[:, columns], is_known)
    read = {c for each in linked.conditionals for c in _read(model, each)}
    try:
        left = residuals(rows[:, columns], rows[:, sorted(read.difference(columns))])
    except LinAlgError:
        return -math.inf
    root = torch.linalg.qr(left / math.sqrt(len(left))).R
    signed = root.diagonal()
    least = max(float(signed.abs().max()) * _LEAST_SPREAD, sys.float_info.min)
    spread = signed.abs().clamp(min=least)
    root = root.triu(1) + spread.copysign(signed).diag()
    unit = torch.linalg.solve_triangular(root.mT, left[: len(few)].mT, upper=False)
    affine = standard_normal_terms(unit).sum(0) - spread.log().sum()
    found = float((own.sum(-1) - affine).nanmean())
    return found if math.isfinite(found) else -math.inf


def joint_rows(model: Model) -> Float[Tensor, "row number"]:
    """Return joint draws of free coordinates and then observed values, numbers all.

    Args:
        model: A model of continuous latents.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = model.forgiving().sample(_DRAWS, generator=generator)
    free, _ = model.unconstrain(drawn.latents.double())
    rows = torch.cat([free, drawn.observed.double()], -1)
    return rows[(rows.abs() < _LARGEST).all(-1)]


def _read(model: Model, conditional: Conditional) -> list[int]:
    """Columns, of free coordinates and then observed values, that it reads."""
    layout = model.layout
    free = [layout.variable(name).free_columns for name in conditional.latents]
    data = [layout.variable(name).columns for name in conditional.observed]
    shifted = [c + layout.free_dim for own in data for c in own]
    return [c for own in free for c in own] + shifted


def _log_normal(rows: Tensor) -> Tensor:
    """Log densities of the first column by its regression on the others."""
    draws = torch.cat([rows - rows.mean(0), rows.new_ones(len(rows), 1)], -1)
    reads = list(range(1, rows.shape[-1]))
    try:
        fit = Regression.of(draws, draws.mT @ draws / len(draws), 0, reads)
    except LinAlgError:  # of numbers that are too far apart
        return torch.full_like(rows[:, 0], math.nan)
    mean = draws[:, reads] @ fit.slopes + fit.intercept
    return normal(draws[:, 0], mean, fit.scale.clamp(min=sys.float_info.min))


def _apart(conditionals: Sequence[Conditional]) -> Iterator[list[Conditional]]:
    """Groups in which none reads another's latent."""
    colours = nx.greedy_color(blankets(conditionals))
    for colour in range(1 + max(colours.values(), default=-1)):
        yield [each for each in conditionals if colours[each.name] == colour]

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
from torch import Tensor

from ..model.model import Model
from .conditionals import Conditional
from .lines import FreeDraws, Lines

__all__ = ["departures_from_linear_normal"]

_DRAWS = 256
"""That grids are fitted for."""
_FITTED, _FITTED_PER_COLUMN = 4_096, 4
"""Draws of a regression, or of each of its columns if that is more."""


def departures_from_linear_normal(
    model: Model, conditionals: Sequence[Conditional]
) -> dict[str, float]:
    """Return the departure of each conditional by the name of its latent, in nats.

    It is below 0 where the conditional's grid is worse than an affine layer.

    Args:
        model: The model, of continuous latents.
        conditionals: Of some of them, each given all others.
    """
    drawn = FreeDraws.of(model.forgiving())
    rows = torch.cat([drawn.free, drawn.observed], -1)
    few = slice(0, _DRAWS)
    found: dict[str, float] = {}
    for group in _apart(conditionals):
        lines = Lines(model, group, drawn)
        at = drawn.free[:, lines.columns]
        grids = lines.grids(drawn.free[few], drawn.observed[few])
        own = grids.log_prob(at[few, :, None])[..., 0]
        for place, each in enumerate(group):
            normal = _log_normal(at[:, place], rows[:, _read(model, each)])
            nats = float((own[:, place] - normal[few]).nanmean())
            found[each.name] = nats if math.isfinite(nats) else -math.inf
    return found


def _read(model: Model, conditional: Conditional) -> list[int]:
    """Columns, of free coordinates and then observed values, that it reads."""
    layout = model.layout
    free = [layout.variable(name).free_columns for name in conditional.latents]
    data = [layout.variable(name).columns for name in conditional.observed]
    shifted = [c + layout.free_dim for own in data for c in own]
    return [c for own in free for c in own] + shifted


def _log_normal(at: Tensor, read: Tensor) -> Tensor:
    """Log densities by the least squares fit, its variance that of the residual."""
    most = max(_FITTED, _FITTED_PER_COLUMN * read.shape[-1])
    design = torch.cat([torch.ones_like(at)[:, None], read - read.mean(0)], -1)
    fitted = torch.linalg.lstsq(design[:most], at[:most, None], driver="gelsd").solution
    residual = at - (design @ fitted)[:, 0]
    free = max(1, len(at[:most]) - design.shape[-1])
    variance = float(residual[:most].square().sum() / free)
    variance = max(variance, sys.float_info.min)
    scaled: Tensor = residual.square() / variance
    return -0.5 * (scaled + math.log(2 * math.pi * variance))


def _apart(conditionals: Sequence[Conditional]) -> Iterator[list[Conditional]]:
    """Groups in which none reads another's latent."""
    of = {each.name: each for each in conditionals}
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(of)
    pairs = ((n, other) for n, each in of.items() for other in each.latents)
    graph.add_edges_from(pair for pair in pairs if pair[1] in of)
    colours = nx.greedy_color(graph)
    for colour in range(1 + max(colours.values(), default=-1)):
        yield [each for name, each in of.items() if colours[name] == colour]

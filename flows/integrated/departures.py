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
from .lines import Lines

__all__ = ["departures_from_linear_normal"]

_DRAWS = 1_024
_DRAWS_PER_COLUMN = 4


def departures_from_linear_normal(
    model: Model, conditionals: Sequence[Conditional]
) -> dict[str, float]:
    """Return the departure of each conditional by the name of its latent, in nats.

    It is below 0 where the conditional's grid is worse than an affine layer.

    Args:
        model: The model, of continuous latents.
        conditionals: Of some of them, each given all others.
    """
    if not conditionals:
        return {}
    widest = max(len(_read(model, each)) for each in conditionals)
    count = max(_DRAWS, _DRAWS_PER_COLUMN * widest)
    drawn = model.sample(count, generator=torch.Generator().manual_seed(0))
    latents, observed = drawn.latents.double(), drawn.observed.double()
    free, _ = model.unconstrain(latents)
    is_known = torch.isfinite(torch.cat([free, observed], -1)).all(-1)
    free, observed = free[is_known], observed[is_known]
    rows = torch.cat([free, observed], -1)
    found: dict[str, float] = {}
    for group in _apart(conditionals):
        lines = Lines(model, group)
        at = free[:, lines.columns]
        own = lines.grids(free, observed).log_prob(at[..., None])[..., 0]
        for place, each in enumerate(group):
            normal = _log_normal(at[:, place], rows[:, _read(model, each)])
            nats = float((own[:, place] - normal).nanmean())
            found[each.name] = nats if math.isfinite(nats) else -math.inf
    return found


def _read(model: Model, conditional: Conditional) -> list[int]:
    """Columns, of free coordinates and then observed values, that it reads."""
    layout = model.layout
    free = [layout.variable(name).free_columns for name in conditional.latents]
    data = [layout.variable(name).columns for name in conditional.observed]
    shifted = [c + layout.free_dim for own in data for c in own]
    return [c for own in free for c in own] + shifted


def _log_normal(at: Tensor, read: Tensor) -> float:
    """Mean log density of the least squares fit, its variance that of the residual."""
    design = torch.cat([torch.ones_like(at)[:, None], read - read.mean(0)], -1)
    fitted = torch.linalg.lstsq(design, at[:, None], driver="gelsd").solution
    residual = at - (design @ fitted)[:, 0]
    free = max(1, len(at) - design.shape[-1])
    variance = max(float(residual.square().sum() / free), sys.float_info.min)
    return -0.5 * math.log(2 * math.pi * math.e * variance)


def _apart(conditionals: Sequence[Conditional]) -> Iterator[list[Conditional]]:
    """Groups in which none reads another's latent."""
    of = {each.name: each for each in conditionals}
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(of)
    pairs = ((n, other) for n, each in of.items() for other in each.latents)
    graph.add_edges_from(pair for pair in pairs if pair[1] in of)
    colours = nx.greedy_color(graph)
    for colour in range(1 + max(colours.values())):
        yield [each for name, each in of.items() if colours[name] == colour]

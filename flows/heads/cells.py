r"""This file cuts the values of a discrete latent into cells, a head's categories.

Cell i holds the whole numbers from edges[i] to below edges[i + 1], all as likely. Where
a support has no known end, a tail holds all values beyond the edges, as likely as

    P(j) = s / (s + j) - s / (s + j + 1),        j = 0, 1, ... from the edge outward,

with s the distance between the outer edges. It falls like j^-2, more slowly than the
tails of counted families, so that weights stay bounded and no value is impossible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.model import Model

__all__ = ["CellTable", "Cells", "cells_of"]

_MOST_CELLS = 64
_FINITE = ("flip", "bernoulli", "discrete", "categorical")


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one latent.

    Attributes:
        edges: First values of the cells, and one past the last; increasing.
        has_lower: Whether there are values below the first edge.
        has_upper: Whether there are values from the last edge on.
    """

    edges: tuple[int, ...]
    has_lower: bool = False
    has_upper: bool = False

    @property
    def count(self) -> int:
        """Number of cells without the tails."""
        return len(self.edges) - 1


def cells_of(model: Model, name: str, drawn: Float[Tensor, " draw"]) -> Cells:
    """Return the cells of a latent: each value, or quantiles of draws, with tails.

    Args:
        model: The model.
        name: Of a discrete latent.
        drawn: Draws of its prior; nan where they have no meaning.
    """
    node = model.lowered.nodes[name]
    families = {branch.family for branch in node.branches}
    if families <= {*_FINITE}:
        numbers = [
            len(node.categories)
            or (branch.shapes[0][0] if branch.family == "discrete" else 2)
            for branch in node.branches
        ]
        count = max(numbers)
        step = math.ceil(count / _MOST_CELLS)
        return Cells((*range(0, count, step), count))
    known = drawn[~torch.isnan(drawn)].double()
    if not len(known):
        known = drawn.new_zeros(1, dtype=torch.float64)
    levels = torch.linspace(0, 1, _MOST_CELLS, dtype=torch.float64)
    quantiles = torch.quantile(known, levels).floor().long()
    first, last = int(quantiles[0]), int(quantiles[-1]) + 1
    inner = range(first, last) if last - first < _MOST_CELLS else quantiles.tolist()
    is_signed = "uniform-discrete" in families
    edges = sorted({*inner, last} | (set() if is_signed else {0}))
    return Cells(tuple(edges), is_signed, has_upper=True)


class CellTable:
    """The cells of several latents: where values lie, what they weigh, draws.

    Category 0 of a latent is its lower tail, then come its cells, then its upper tail;
    categories beyond those that it has are not `allowed`.
    """

    def __init__(self, cells: Sequence[Cells]) -> None:
        """Lay out the cells of latents side by side."""
        most = max((each.count for each in cells), default=0)
        self.width = most + 2
        edges = torch.full((len(cells), most + 1), math.inf, dtype=torch.float64)
        self.allowed = torch.zeros(len(cells), self.width, dtype=torch.bool)
        for row, each in enumerate(cells):
            edges[row, : each.count + 1] = torch.tensor(each.edges).double()
            self.allowed[row, 1 : each.count + 1] = True
            self.allowed[row, 0] = each.has_lower
            self.allowed[row, each.count + 1] = each.has_upper
        self.edges = edges
        self.counts = torch.tensor([each.count for each in cells]).long()
        self.first = edges[:, 0]
        self.last = edges.gather(1, self.counts[:, None])[:, 0]

    def category(
        self, values: Float[Tensor, "latent row"], which: Tensor
    ) -> Int[Tensor, "latent row"]:
        """Return in which category whole numbers lie.

        Args:
            values: In the order of `which`.
            which: Numbers of the latents.
        """
        edges = self.edges[which].contiguous()
        return torch.searchsorted(edges, values.double().contiguous(), right=True)

    def log_inside(
        self, values: Tensor, category: Tensor, which: Tensor
    ) -> Float[Tensor, "latent row"]:
        """Return log P(value | its category), in nats."""
        last = self.last[which, None]
        left, right = self._bounds(category, which)
        reach = last - self.first[which, None]
        is_upper = category > self.counts[which, None]
        away = torch.where(
            is_upper, values - last, self.first[which, None] - 1.0 - values
        )
        away = away.clamp(min=0.0)
        tail = reach.log() - (reach + away).log() - (reach + away + 1.0).log()
        is_tail = is_upper | (category == 0)
        return torch.where(is_tail, tail, -(right - left).log())

    def values(
        self, category: Tensor, share: Tensor, which: Tensor
    ) -> Float[Tensor, "latent row"]:
        """Return the values that shares of the mass of categories reach, from below."""
        first, last = self.first[which, None], self.last[which, None]
        left, right = self._bounds(category, which)
        width = right - left
        inside = left + (share * width).floor().minimum(width - 1.0)
        reach = last - first
        tiny = torch.finfo(share.dtype).tiny
        above = last + self._away(reach, (1.0 - share).clamp(min=tiny))
        below = first - 1.0 - self._away(reach, share.clamp(min=tiny))
        found = torch.where(category > self.counts[which, None], above, inside)
        return torch.where(category == 0, below, found)

    @staticmethod
    def _away(reach: Tensor, survival: Tensor) -> Tensor:
        """Return j of a tail with P(at least j) = s / (s + j)."""
        return (reach / survival - reach).floor().clamp(0.0, 2.0**50)

    def _bounds(self, category: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edges of cells; of tails some others."""
        edges = self.edges[which]
        counts = self.counts[which, None]
        inner = torch.minimum((category - 1).clamp(min=0), counts - 1)
        return edges.gather(1, inner), edges.gather(1, inner + 1)

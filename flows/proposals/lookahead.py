r"""This file fits what is known of some latents by a function of them.

A message is a constant, the values of some free columns, their squares and their
products times slopes, by least squares on draws: exact where what is wanted is the log
of a normal density in these columns. Draws that miss, far below the rest, are left out.

References:
    Guarniero, Johansen, Lee (2017), The iterated nuisances particle filter, JASA
    112(520), https://arxiv.org/abs/1511.06286
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Message"]

# Of so many columns all products are fitted; of more, their squares.
_MOST_PRODUCTS = 12
# Draws further below the median than so many interquartile ranges are misses.
_MISS = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A quadratic function of a few free columns, fitted to draws.

    Attributes:
        columns: Free columns that are read.
        low: Values are brought between here and `high`, since a square says nothing of
            places far from all that was seen.
        high: As far above the largest value seen as `low` is below the smallest: half
            of what lies between them.
        centre: Taken off before products are formed.
        pairs: Positions whose products are read.
        slopes: Of a constant, the values and the products.
    """

    columns: tuple[int, ...]
    low: Float[Tensor, " column"]
    high: Float[Tensor, " column"]
    centre: Float[Tensor, " column"]
    pairs: tuple[tuple[int, ...], tuple[int, ...]]
    slopes: Float[Tensor, " feature"]

    @classmethod
    def fitted(
        cls,
        columns: Sequence[int],
        free: Float[Tensor, "row free"],
        wanted: Float[Tensor, " row"],
    ) -> "Message | None":
        """Return the message nearest to what is wanted; None if nothing can be said."""
        count = len(columns)
        possible = wanted.isfinite()
        if not count or not bool(possible.any()):
            return None
        quartiles = wanted.new_tensor([0.25, 0.5, 0.75])
        low, middle, high = wanted[possible].quantile(quartiles)
        kept = possible & (wanted >= middle - _MISS * (high - low))
        values = free[kept][:, list(columns)]
        pairs = [
            (i, j)
            for i in range(count)
            for j in range(i + 1)
            if i == j or count <= _MOST_PRODUCTS
        ]
        if values.shape[0] < 3 * (1 + count + len(pairs)):
            return None
        margin = 0.5 * (values.amax(0) - values.amin(0))
        blank = cls(
            tuple(columns),
            values.amin(0) - margin,
            values.amax(0) + margin,
            values.mean(0),
            (tuple(i for i, _ in pairs), tuple(j for _, j in pairs)),
            values.new_empty(0),
        )
        features = blank._features(free[kept])
        scale = features.abs().amax(0)
        scale = torch.where(scale > 0.0, scale, 1.0)
        solved = torch.linalg.lstsq(
            features / scale, wanted[kept].unsqueeze(1), driver="gelsd"
        ).solution.squeeze(1)
        return cls(
            blank.columns,
            blank.low,
            blank.high,
            blank.centre,
            blank.pairs,
            solved / scale,
        )

    def __call__(self, free: Float[Tensor, "row free"]) -> Float[Tensor, " row"]:
        """Return the message of every row, in nats."""
        return self._features(free) @ self.slopes

    def _features(
        self, free: Float[Tensor, "row free"]
    ) -> Float[Tensor, "row feature"]:
        values = free[:, list(self.columns)].clamp(self.low, self.high) - self.centre
        left, right = (list(each) for each in self.pairs)
        one = values.new_ones(values.shape[0], 1)
        return torch.cat([one, values, values[:, left] * values[:, right]], 1)

"""This file is what nodes with some latents eliminated have, exactly or roughly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..model.lowered_graph import LoweredGraph
from ..model.shapes import LatentRows
from ..structured_gaussian.elimination import Elimination
from .potentials import Potentials

__all__ = ["EliminatedLatents", "in_order"]

_MOST_NUMBERS = 2**20
"""Of the precisions of rows that are held at once."""


@dataclass(frozen=True, eq=False)
class EliminatedLatents:
    """Latents as the columns of an elimination.

    Attributes:
        lowered: The graph.
        latents: Their names, in the numbers of the elimination.
        potentials: The factors that have these, normal and linear in them.
    """

    lowered: LoweredGraph
    latents: tuple[str, ...]
    potentials: Potentials

    @property
    def num_entries(self) -> int:
        """How many numbers the matrices hold, for one row."""
        return self.potentials.places.num_entries

    def parts_of(
        self, filled: LatentRows, observed: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and data, so few at once that their matrices are few."""
        num = max(1, _MOST_NUMBERS // max(1, self.num_entries))
        for first in range(0, len(filled), num):
            own = slice(first, first + num)
            yield filled[own], observed[own] if len(observed) > 1 else observed

    @cached_property
    def elimination(self) -> Elimination:
        """Of the columns."""
        return Elimination(self.potentials.places.plan)

    @cached_property
    def columns(self) -> Tensor:
        """Of these latents among all, in the numbers of the elimination."""
        layout = self.lowered.layout
        return torch.tensor([layout.variable(name).start for name in self.latents])


def in_order(latents: Sequence[str], numbers: Sequence[int]) -> tuple[str, ...]:
    """Return names by their numbers."""
    return tuple(name for _, name in sorted(zip(numbers, latents, strict=True)))

"""This file answers a model whose latents are all discrete, exactly.

The evidence is one elimination, marginals are its gradient, draws go backward through
it. What a number computed from several latents is distributed like follows from their
joint marginal, the gradient by a table of zeros over them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .collapsed import CollapsedModel
from .elimination import Elimination, Table
from .tables import NUM_BLOCKS

__all__ = ["ExactPosterior"]

_MOST_CONFIGURATIONS = 2**14
_MOST_NUMBERS = 2**23
"""The same of latents that a table is over anyway, times the columns of a row."""


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """The posterior of discrete latents given one data set.

    Attributes:
        collapsed: A model without continuous latents.
        observed: The data.
    """

    collapsed: CollapsedModel
    observed: Float[Tensor, " observed"]

    @cached_property
    def _blocks(self) -> list[Tensor]:
        none = self.observed.new_zeros(1, 0)
        return self.collapsed.entries(none, self.observed)

    @cached_property
    def log_evidence(self) -> float:
        """The log evidence, in nats; -inf where the data are impossible."""
        none = self.observed.new_zeros(1, 0)
        return float(self.collapsed.log_joint(none, self.observed))

    def sample(self, num: int, *, generator: Generator) -> Float[Tensor, "draw latent"]:
        """Return exact draws of all latents."""
        none = self.observed.new_zeros(num, 0)
        return self.collapsed.complete(none, self.observed, generator=generator)

    @cached_property
    def _marginals(self) -> tuple[Tensor, ...]:
        return self.collapsed.tables.elimination.marginals(self._blocks)

    def marginal(self, name: str) -> Float[Tensor, " value"]:
        """Return the probability of every value of a latent."""
        return self._marginals[self._number[name]][:, 0]

    def every_value(self) -> Float[Tensor, "place latent"]:
        """Return rows of all latents: in row k each has its value k, or its last."""
        tables = self.collapsed.tables
        sizes = torch.tensor([len(tables.values[name]) for name in tables.discrete])
        places = torch.arange(int(sizes.max()))
        every = torch.minimum(places, sizes.unsqueeze(1) - 1)
        return self.collapsed.coded(tables.discrete, every)

    @cached_property
    def _number(self) -> Mapping[str, int]:
        names = self.collapsed.tables.discrete
        return {name: number for number, name in enumerate(names)}

    def joint(
        self, names: Sequence[str]
    ) -> tuple[Float[Tensor, "configuration latent"], Float[Tensor, " configuration"]]:
        """Return every configuration of some latents, with its probability.

        Rows hold all latents of the model; those that are not named are 0.

        Raises:
            ValueError: If they have too many configurations.
        """
        tables = self.collapsed.tables
        numbers = [self._number[name] for name in names]
        sizes = [tables.elimination.cardinalities[number] for number in numbers]
        count = math.prod(sizes)
        if not self.is_small(names):
            raise ValueError(f"joint: expected few configurations; got {count}")
        places = np.indices(sizes).reshape(len(sizes), -1)
        rows = self.collapsed.coded(names, torch.from_numpy(places))
        return rows, self._joint(numbers, sizes)

    def is_small(self, names: Sequence[str]) -> bool:
        """Return whether `joint` takes these latents."""
        tables = self.collapsed.tables
        count = math.prod(len(tables.values[name]) for name in names)
        if count <= _MOST_CONFIGURATIONS:
            return True
        numbers = {self._number[name] for name in names}
        columns = self.collapsed.model.layout.latent_dim
        return count * columns <= _MOST_NUMBERS and any(
            numbers.issubset(table.scope) for table in tables.tables
        )

    def _joint(self, numbers: Sequence[int], sizes: Sequence[int]) -> Tensor:
        tables = self.collapsed.tables
        entries = np.arange(math.prod(sizes)).reshape(sizes)
        more = Table(tuple(numbers), entries, block=NUM_BLOCKS)
        elimination = Elimination(
            tables.elimination.cardinalities,
            (*tables.tables, more),
            num_blocks=NUM_BLOCKS + 1,
        )
        zeros = self.observed.new_zeros(entries.size, 1, requires_grad=True)
        with torch.enable_grad():
            log_sum = elimination.log_sum([*self._blocks, zeros])
            (found,) = torch.autograd.grad(log_sum.sum(), zeros)
        return found[:, 0]

"""This file computes the entries of observed nodes that are alike as one tensor.

Nodes are alike if their link functions are the same at every configuration of the
discrete latents that each reads: the points of a mixture, the steps of a chain. The
parameters at each configuration are computed once for all of them,

    T[configuration, node] = log p(value of node | parameters at configuration).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.families import DENSITIES, Shape
from ..model.lowered import Branch
from .normals import normals

__all__ = ["AlikeNodes"]


@dataclass(frozen=True, eq=False)
class AlikeNodes:
    """Observed nodes with the same link functions.

    Attributes:
        family: Of all their distributions.
        shapes: Of a value, and of each parameter.
        parameters: Slots of each parameter at each configuration, flat.
        tables: Number of each node's table.
        columns: Columns of the data that each node's value stands in.
    """

    family: str
    shapes: tuple[Shape, ...]
    parameters: tuple[tuple[int, ...], ...]
    tables: tuple[int, ...]
    columns: Int[Tensor, "node size"]

    @classmethod
    def of(
        cls,
        branches: Collection[Branch],
        shape: Shape,
        tables: tuple[int, ...],
        columns: Int[Tensor, "node size"],
    ) -> "AlikeNodes":
        """Return nodes whose values have a shape, by distributions of one family."""
        first, *_ = branches
        parameters = tuple(
            tuple(slot for branch in branches for slot in branch.parameters[number])
            for number in range(len(first.parameters))
        )
        return cls(first.family, (shape, *first.shapes), parameters, tables, columns)

    def among(self, tables: Collection[int]) -> "AlikeNodes":
        """Return the nodes whose tables are among some."""
        kept = [place for place, table in enumerate(self.tables) if table in tables]
        return replace(
            self,
            tables=tuple(self.tables[place] for place in kept),
            columns=self.columns[kept],
        )

    def entries(
        self,
        parameters: list[Float[Tensor, "slot row"]],
        data: Float[Tensor, "column row"],
    ) -> Float[Tensor, "entry row"]:
        """Return the entries, all nodes at the first configuration first.

        Args:
            parameters: Values of the slots of each parameter.
            data: Columns of the observed nodes.
        """
        values = data[self.columns]
        num_nodes, num_rows = len(values), data.shape[1]
        values = values.reshape(1, num_nodes, *self.shapes[0], num_rows)
        given = [
            flat.reshape(-1, 1, *shape, flat.shape[1])
            for flat, shape in zip(parameters, self.shapes[1:], strict=True)
        ]
        if any(self.shapes):  # families of vectors take one dimension of slots
            count = len(given[0]) * num_nodes
            values, *given = (
                part.expand(len(given[0]), num_nodes, *part.shape[2:]).reshape(
                    count, *part.shape[2:]
                )
                for part in (values, *given)
            )
        density = DENSITIES[self.family]
        log_prob = normals if self.family == "normal" else density.log_prob
        found = log_prob(values, *given)
        if not density.says_nan:
            found = torch.where(density.validity(*given), found, math.nan)
        return found.reshape(-1, found.shape[-1])

"""This file computes the tables of link functions that read many discrete latents.

Where a node's density is one of discrete latents and of the node's own value alone, all
configurations are the rows of one call of the density that the model has anyway:
nothing is specialised. Observed nodes over the same latents have one table, the sum of
theirs, which is impossible where one of them is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from daphne_bridge.graph.expression import Value

from ..model.lowered_graph import LoweredGraph
from ..model.schedule import Schedule
from .supports import code_of

__all__ = ["WideTable"]

_AT_ONCE = 2**22
"""Most numbers that are computed by one call."""


@dataclass(frozen=True, eq=False)
class WideTable:
    """A table of numbers, one for each configuration of some discrete latents.

    Attributes:
        schedule: Computes the log densities of nodes from latents and own values.
        num_nodes: Of how many nodes it is the sum.
        codes: For each latent how columns write its values.
        own: Columns of the data that the nodes' values stand in.
    """

    schedule: Schedule
    num_nodes: int
    codes: tuple[Float[Tensor, " value"], ...]
    own: Int[Tensor, " own"]

    @classmethod
    def of(
        cls,
        lowered: LoweredGraph,
        names: Sequence[str],
        values: Mapping[str, Sequence[Value]],
        nodes: Sequence[str],
    ) -> "WideTable":
        """Return the table of nodes that read some discrete latents and no others.

        Args:
            lowered: The graph.
            names: Of the latents, in the order of the table's axes.
            values: All values of each of them.
            nodes: Names of observed nodes, or of one of the latents.
        """
        entries = [lowered.nodes[name] for name in names]
        codes = tuple(
            torch.tensor(
                [code_of(value, entry.categories) for value in values[name]],
                dtype=torch.float64,
            )
            for name, entry in zip(names, entries, strict=True)
        )
        observed = {v.name: v for v in lowered.layout.observed if v.name in {*nodes}}
        own = [v for name in nodes if (v := observed.get(name)) is not None]
        schedule = Schedule.of(
            lowered.dag,
            [
                tuple(slot for entry in entries for slot in entry.slots),
                tuple(slot for v in own for slot in lowered.nodes[v.name].slots),
            ],
            [tuple(lowered.terms[name] for name in nodes)],
        )
        columns = [column for v in own for column in v.columns]
        return cls(schedule, len(nodes), codes, torch.tensor(columns).long())

    @property
    def size(self) -> int:
        """Its number of entries."""
        return math.prod(map(len, self.codes))

    def entries(
        self, data: Float[Tensor, "column row"]
    ) -> Float[Tensor, "configuration row"]:
        """Return all entries, the last latent's value changing fastest.

        Args:
            data: Columns of the observed nodes.
        """
        own = data[self.own]
        most = max(1, _AT_ONCE // (self.num_nodes * own.shape[1]))
        places = torch.split(torch.arange(self.size), most)
        return torch.cat([self._at(part, own) for part in places])

    def _at(self, places: Tensor, own: Tensor) -> Tensor:
        count = own.shape[1]
        columns = []
        for known in reversed(self.codes):
            columns.append(known[places % len(known)])
            places = places // len(known)
        latents = torch.stack(columns[::-1]).to(own).repeat_interleave(count, 1)
        num_rows = latents.shape[1]
        given = own if count == 1 else own.repeat(1, num_rows // count)
        (terms,) = self.schedule.run([latents, given], num_rows=num_rows, like=own)
        terms = terms.expand(self.num_nodes, num_rows)
        is_impossible = (terms == -math.inf).any(0)
        return torch.where(is_impossible, -math.inf, terms.sum(0)).reshape(-1, count)

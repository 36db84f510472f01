r"""This file makes a flow of all latents out of one of those that are kept.

    log q(z | x) = log q(c | x) + Σ_i log g_i(z_i | those before it that it reads, x),

c being the kept latents, g_i the conditional of z_i where that is normal (`lines.py`,
`linked.py`), else the density of a grid that is fitted to it. Both are exact densities
of what is drawn, so that weights are exact however well the grids fit. In sampling
order the kept latents come first, each with its nuisances, then the others, each with
one base point of its own.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.blocks import StateBlock
from ..flow.completed import Completed
from ..flow.protocol import Flow, FlowDraw, Known
from ..flow.shapes import Free, LogProbPerNode, Nuisance, Observed
from ..flow.structure import Structure
from .target import IntegratedModel

__all__ = ["CompletedFlow"]


@dataclass(frozen=True, eq=False)
class CompletedFlow(Completed):
    """A flow of all latents of a model; see `flow.protocol.Flow`.

    Attributes:
        inner: The flow of the kept latents, in the target's columns.
        target: The model with the others integrated out.
    """

    inner: Flow
    target: IntegratedModel

    def around(self, inner: Flow) -> "CompletedFlow":
        """Return the same around another version of the inner flow."""
        return replace(self, inner=inner)

    @property
    def num_added(self) -> int:
        """How many latents are integrated out."""
        return len(self.target.integrated)

    # -------------------------------------------------------------- structure

    @cached_property
    def structure(self) -> Structure:  # type: ignore[override]
        """Blocks of the kept latents, then of the others."""
        inner, layout = self.inner.structure, self.target.model.layout
        blocks: list[StateBlock] = []
        for block in inner.blocks:
            own = layout.variable(block.name).free_columns
            blocks.append(replace(block, free_columns=tuple(own)))
        place = {block.name: i for i, block in enumerate(inner.blocks)}
        place |= {name: len(place) + i for i, name in enumerate(self.target.integrated)}
        for each in self.target.conditionals:
            read = [layout.variable(name) for name in each.observed]
            blocks.append(
                StateBlock(
                    each.name,
                    (layout.variable(each.name).free_start,),
                    0,
                    tuple(sorted(place[name] for name in each.latents)),
                    tuple(c for v in read for c in v.columns),
                )
            )
        return Structure(tuple(blocks), inner.observed_dim)

    @property
    def _kept(self) -> Tensor:
        return self.target.kept.free_columns

    # -------------------------------------------------------------- densities

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        inner = self.inner.log_prob_per_node(free[:, self._kept], nuisances, observed)
        whole = free.double()
        _, terms = self._completed(
            whole, observed, torch.zeros_like(whole), {*self.target.integrated}
        )
        return torch.cat([inner.to(terms), terms], -1)

    # -------------------------------------------------------------- draws

    def _around(
        self,
        drawn: FlowDraw,
        base: Float[Tensor, "batch line"],
        observed: Observed,
        known: Known | None = None,
    ) -> FlowDraw:
        """Draws of the inner flow with the other latents drawn from base points."""
        whole = self.target.kept.filled_free(drawn.free.double())
        columns = [
            self.target.model.layout.variable(name).free_start
            for name in self.target.integrated
        ]
        places = torch.tensor(columns, device=whole.device)
        points = torch.zeros_like(whole).index_copy(-1, places, base.to(whole))
        given = {n for n in self.target.integrated if known and n in known.nodes}
        if known is not None and given:
            at = places[[name in given for name in self.target.integrated]]
            whole = whole.index_copy(-1, at, known.free[:, at].to(whole))
        free, terms = self._completed(whole, observed, points, given)
        per_node = torch.cat([drawn.log_prob_per_node.to(terms), terms], -1)
        return FlowDraw(free, drawn.nuisances.to(free), per_node)

    def _completed(
        self,
        free: Tensor,
        observed: Observed,
        points: Tensor,
        given: Collection[str],
    ) -> tuple[Tensor, Tensor]:
        """Latents with those that are not kept put in, and the log densities of these.

        Args:
            free: kept latents, and given ones, in the columns of all.
            observed: observed values.
            points: a base point for each column.
            given: names of latents that keep their values.
        """
        terms, data = [], observed.double()
        for level in self.target.levels:
            columns = torch.tensor(level.columns, device=free.device)
            is_given = [each.name in given for each in level.conditionals]
            is_known = torch.tensor(is_given, device=free.device)
            found, own = level.completed(free, data, points[:, columns], is_known)
            free = free.index_copy(-1, columns, found)
            terms.append(own)
        return free, torch.cat(terms, -1)[:, self._places]

    @cached_property
    def _places(self) -> list[int]:
        """Of the latents that are integrated out among those of the levels."""
        drawn = [c.name for level in self.target.levels for c in level.conditionals]
        place = {name: number for number, name in enumerate(drawn)}
        return [place[name] for name in self.target.integrated]

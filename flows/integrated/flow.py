r"""This file makes a flow of all latents out of one of those that are kept.

    log q(z | x) = log q(c | x) + Σ_i log g_i(z_i | the others that it reads, x),

c being the kept latents, g_i the conditional of z_i where that is normal, else the
density of a grid that is fitted to it (`lines.py`). Both are exact densities of what is
drawn, so that weights are exact however well the grids fit. In sampling order the kept
latents come first, each with its nuisances, then the others, each with one base point
of its own.
"""

from collections.abc import Callable
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
from .lines import LineDensities
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
        _, terms = self._completed(
            free.double(), observed.double(), lambda _, at: at, free.double()
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
        share = torch.special.ndtr(base.double())
        columns = [
            self.target.model.layout.variable(name).free_start
            for name in self.target.integrated
        ]
        places = torch.tensor(columns, device=whole.device)
        at = torch.zeros_like(whole).index_copy(-1, places, share)

        def carried(density: LineDensities, at: Tensor) -> Tensor:
            return density.quantile(at[..., None])[..., 0]

        free, terms = self._completed(whole, observed.double(), carried, at, known)
        per_node = torch.cat([drawn.log_prob_per_node.to(terms), terms], -1)
        return FlowDraw(free, drawn.nuisances.to(free), per_node)

    def _completed(
        self,
        free: Tensor,
        observed: Tensor,
        values: Callable[[LineDensities, Tensor], Tensor],
        at: Tensor,
        known: Known | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latents with those that are not kept put in, and the log densities of these.

        Args:
            free: kept latents in the columns of all.
            observed: observed values.
            values: of latents, by their densities and `at`.
            at: a number for each column.
            known: latents that keep their values.
        """
        terms = []
        for lines in self.target.levels:
            columns = torch.tensor(lines.columns, device=free.device)
            density = lines.densities(free, observed)
            found = values(density, at[:, columns])
            if known is not None:
                is_given = [each.name in known.nodes for each in lines.conditionals]
                is_known = torch.tensor(is_given, device=free.device)
                found = torch.where(is_known, known.free[:, columns].to(found), found)
            free = free.index_copy(-1, columns, found)
            terms.append(density.log_prob(found[..., None])[..., 0])
        order = [c.name for lines in self.target.levels for c in lines.conditionals]
        place = [order.index(name) for name in self.target.integrated]
        return free, torch.cat(terms, -1)[:, place]

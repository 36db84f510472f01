r"""This file is a flow of continuous latents with heads for discrete ones after it.

    log q(c, k | x) = log q(c | x) + Σ_i log P(k_i | c, earlier k, x),

q(c | x) a flow of any kind, the heads those of `networks.py`. A discrete latent of
value k has the free coordinate k + 1/2 (`marginal/kept.py`): its density there is P(k),
as a cell of length one has it, so that this is a flow of all of them and its weights
are those of any other. In sampling order the continuous latents come first, each with
its nuisances, then the discrete ones, each with one base point of its own.

Base points of heads become values by jumps, which no gradient sees; training follows
contrasts (`training/losses.py`), which need none.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ..flow.completed import Completed
from ..flow.protocol import Drawn, Flow, FlowDraw, Known, Matched
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed, Row
from ..flow.structure import Structure
from .networks import Heads

__all__ = ["HeadedFlow"]


@dataclass(frozen=True, eq=False)
class HeadedFlow(Completed):
    """A flow of continuous and discrete latents; see `flow.protocol.Flow`.

    Attributes:
        inner: The flow of the continuous latents, in columns of their own.
        heads: Of the discrete latents, the last of the structure.
        structure: Of all latents, in the model's columns.
    """

    inner: Flow
    heads: Heads
    structure: Structure

    def around(self, inner: Flow) -> "HeadedFlow":
        """Return the same around another version of the inner flow.

        The heads are copied where that has another precision or device.
        """
        like = self.heads.shift
        heads = self.heads
        if (like.dtype, like.device) != (inner.dtype, inner.device):
            heads = copy.deepcopy(heads).to(inner.device).to(inner.dtype)
        return replace(self, inner=inner, heads=heads)

    @property
    def num_added(self) -> int:
        """How many latents have a head."""
        return len(self.heads.columns)

    @property
    def _own(self) -> nn.Module:
        return self.heads

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits both normalisations to joint draws."""
        super().fit_normalisation(free, observed)
        self.heads.fit_normalisation(free, observed)

    # -------------------------------------------------------------- densities

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        inner = self.inner.log_prob_per_node(free[:, self._kept], nuisances, observed)
        return torch.cat([inner, self.heads.log_prob(free, observed)], -1)

    def matching_terms(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base, time: Row
    ) -> Row:
        """Terms of the inner flow's warm start, or its forward KL, and the heads' own.

        The model's constant is left out.
        """
        kept = free[:, self._kept]
        width = self.inner.structure.state_dim
        if isinstance(self.inner, Matched):
            terms = self.inner.matching_terms(
                kept, nuisances, observed, base[:, :width], time
            )
        else:
            terms = -self.inner.log_prob(kept, nuisances, observed)
        return terms - self.heads.log_prob(free, observed).sum(-1)

    # -------------------------------------------------------------- draws

    @torch.no_grad()
    def drawn(self, base: Base, observed: Observed) -> tuple[Free, Nuisance]:
        """Draws from base points, without gradients."""
        width = self.inner.structure.state_dim
        if isinstance(self.inner, Drawn):
            kept, nuisances = self.inner.drawn(base[:, :width], observed)
        else:
            draw = self.inner.from_base(base[:, :width], observed)
            kept, nuisances = draw.free, draw.nuisances
        share = torch.special.ndtr(base[:, width:].double())
        return self.heads.drawn(self._whole(kept), observed, share)[0], nuisances

    def _around(
        self,
        drawn: FlowDraw,
        base: Tensor,
        observed: Observed,
        known: Known | None = None,
    ) -> FlowDraw:
        """Draws of the inner flow with the discrete latents drawn from base points."""
        whole = self._whole(drawn.free)
        names = () if known is None else tuple(known.nodes)
        if known is not None:
            columns = self.heads.columns
            whole = whole.index_copy(
                1, torch.tensor(columns, device=whole.device), known.free[:, columns]
            )
        share = torch.special.ndtr(base.double())
        free, terms = self.heads.drawn(whole, observed, share, names)
        per_node = torch.cat([drawn.log_prob_per_node, terms], -1)
        return FlowDraw(free, drawn.nuisances, per_node)

    def _whole(self, kept: Tensor) -> Tensor:
        """Free coordinates of all latents, 0 where discrete."""
        found = kept.new_zeros(len(kept), self.structure.free_dim)
        return found.index_copy(1, self._kept.to(kept.device), kept)

    @cached_property
    def _kept(self) -> Tensor:
        """Columns of the continuous latents, in the order of the inner flow's."""
        last = set(self.heads.columns)
        free = range(self.structure.free_dim)
        return torch.tensor([c for c in free if c not in last]).long()

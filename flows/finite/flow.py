r"""This file is the flow of finite length: one node after the other is drawn.

In residual coordinates r (`scaling.py`) each node has an invertible map of its own
columns whose numbers are given by a network of what the node reads,

    r_i = T(e_i; numbers_i(parents of i, observed columns of i)),     e_i ~ N(0, I),

so that log q_i = log N(e_i; 0, I) - log|det dT/de_i| + log|det dr_i/dz_i|. To score,
all nodes are inverted at once; to draw, a generation of the inverse at a time. Where a
node reads nothing its numbers are constants. T is a chain of layers (`chain.py`).
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.normalised_flow import NormalisedFlow
from ..flow.protocol import FlowDraw
from ..flow.scaling import AffineMap
from ..flow.settings import bounded, choice
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed
from ..flow.structure import Structure
from .chain import LAYERS, Chain
from .networks import NodeBatch, NodeNetworks

__all__ = ["FiniteConfig", "FiniteFlow"]


@dataclass(frozen=True, slots=True)
class FiniteConfig:
    """Shape of the flow.

    Args:
        transform: planar or radial layers.
        length: how many layers a node's columns pass; with 0 a node is a diagonal
            normal given what it reads.
        hidden: units of a hidden layer of a node's network.
        layers: hidden layers of it.
    """

    transform: str = choice(*LAYERS)
    length: int = bounded(8, 0, 1024)
    hidden: int = bounded(32, 1, 1024)
    layers: int = bounded(2, 1, 16)


class FiniteFlow(NormalisedFlow):
    """See `flow.protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: layers and networks.
        seed: of the initial weights.
    """

    kind = "finite"
    is_exact = True
    config: FiniteConfig

    def __init__(
        self, structure: Structure, config: FiniteConfig, *, seed: int = 0
    ) -> None:
        super().__init__(structure, config)
        generator = torch.Generator().manual_seed(seed)
        self.chain = Chain(config.transform, config.length)
        self.networks = NodeNetworks(
            structure,
            width=self.chain.width,
            first=lambda size: self.chain.first(size, generator),
            hidden=config.hidden,
            layers=config.layers,
            generator=generator,
        )

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        given, affine = self._affine(observed)
        state = affine.to_residual(self.columns.join(free, nuisances))
        base, log_det = self._to_base(state, given)
        return self.columns.base_log_prob(base) + log_det + affine.log_det

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        given, affine = self._affine(observed)
        state, log_det = self._to_latent(base, given)
        drawn = self.columns.split(affine.from_residual(state))
        terms = self.columns.base_log_prob(base) - log_det + affine.log_det
        return FlowDraw(*drawn, terms)

    def rsample_remaining(
        self,
        free: Free,
        nuisances: Nuisance,
        observed: Observed,
        given: Collection[str],
        *,
        generator: torch.Generator | None = None,
    ) -> FlowDraw:
        """Draws of all other latents given some; see `protocol.Flow`.

        Raises:
            ArgumentError: if the given latents lack an ancestor.
        """
        is_given = self.columns.of_nodes(given)
        known, affine = self._affine(observed)
        state = torch.where(is_given, self.columns.join(free, nuisances), affine.shift)
        residual = torch.where(is_given, affine.to_residual(state), 0.0)
        fresh = self.sample_base(observed.shape[0], generator=generator)
        base = torch.where(is_given, self._to_base(residual, known)[0], fresh)
        moved, log_det = self._to_latent(base, known)
        drawn = torch.where(is_given, state, affine.from_residual(moved))
        terms = self.columns.base_log_prob(base) - log_det + affine.log_det
        return FlowDraw(*self.columns.split(drawn), terms)

    def _affine(self, observed: Tensor) -> tuple[Tensor, AffineMap]:
        given = self.normalisation.normalise_observed(observed)
        return given, self.normalisation.affine(given)

    def _to_latent(self, base: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Residual coordinates of base points, with log|det| per node."""
        state = torch.zeros_like(base)
        log_det = base.new_zeros(base.shape[0], len(self.structure.blocks))
        for generation in self.networks.generations():
            read = torch.cat([state, given], -1)
            for nodes in generation:
                start = base[:, nodes.columns].transpose(0, 1)
                moved, change = self.chain.to_latent(start, nodes.numbers(read))
                state, log_det = _put(nodes, moved, change, state, log_det)
        return state, log_det

    def _to_base(self, state: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Base points of residual coordinates, with log|det| per node."""
        base = torch.zeros_like(state)
        log_det = state.new_zeros(state.shape[0], len(self.structure.blocks))
        read = torch.cat([state, given], -1)
        for nodes in self.networks.all_nodes():
            start = state[:, nodes.columns].transpose(0, 1)
            moved, change = self.chain.to_base(start, nodes.numbers(read))
            base, log_det = _put(nodes, moved, change, base, log_det)
        return base, log_det


def _put(
    nodes: NodeBatch,
    moved: Float[Tensor, "node batch size"],
    change: Float[Tensor, "node batch"],
    columns: Float[Tensor, "batch column"],
    log_det: LogProbPerNode,
) -> tuple[Tensor, Tensor]:
    """Columns and log|det| of all nodes, with those of some put in."""
    rows = moved.transpose(0, 1).flatten(1)
    return (
        columns.index_copy(-1, nodes.columns.flatten(), rows),
        log_det.index_copy(-1, nodes.nodes, change.T),
    )

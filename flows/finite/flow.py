r"""This file is the flow of finite length: one node after the other is drawn.

In residual coordinates r (`scaling.py`) each node has an invertible map of its own
columns whose numbers are given by a network of what the node reads,

    r_i = T(e_i; numbers_i(parents of i, observed columns of i)),     e_i ~ N(0, I),

so that log q_i = log N(e_i; 0, I) - log|det dT/de_i| + log|det dr_i/dz_i|. To score,
all nodes are inverted at once; to draw, a generation of the inverse at a time. Where a
node reads nothing its numbers are constants. T is a chain of layers (`chain.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flow.normalised_flow import ResidualFlow
from ..flow.protocol import FlowDraw
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


class FiniteFlow(ResidualFlow):
    """See `flow.protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: layers and networks.
        seed: of the initial weights.
    """

    kind = "finite"
    is_exact = True
    config: FiniteConfig

    def __init__(self, structure: Structure, config: FiniteConfig, seed: int) -> None:
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
        base, log_det = self.residual_to_base(state, given)
        return self.columns.base_log_prob(base) + log_det + affine.log_det

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        given, affine = self._affine(observed)
        state, log_det = self.base_to_residual(base, given)
        drawn = self.columns.split(affine.from_residual(state))
        terms = self.columns.base_log_prob(base) - log_det + affine.log_det
        return FlowDraw(*drawn, terms)

    def base_to_residual(
        self, base: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
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

    def residual_to_base(
        self, residual: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Base points of residual coordinates, with log|det| per node."""
        base = torch.zeros_like(residual)
        log_det = residual.new_zeros(residual.shape[0], len(self.structure.blocks))
        read = torch.cat([residual, given], -1)
        for nodes in self.networks.all_nodes():
            start = residual[:, nodes.columns].transpose(0, 1)
            moved, change = self.chain.to_base(start, nodes.numbers(read))
            base, log_det = _put(nodes, moved, change, base, log_det)
        return base, log_det


def _put(
    nodes: NodeBatch, moved: Tensor, change: Tensor, columns: Tensor, log_det: Tensor
) -> tuple[Tensor, Tensor]:
    """Columns and log|det| of all nodes, with those of some put in.

    Those of some come node by node: `moved` as [node, batch, size], `change` as
    [node, batch].
    """
    rows = moved.transpose(0, 1).flatten(1)
    return (
        columns.index_copy(-1, nodes.columns.flatten(), rows),
        log_det.index_copy(-1, nodes.nodes, change.T),
    )

"""This file turns latents and nuisances into a flow's state columns, and back.

State columns stand node after node in sampling order, free columns of a node first
(`structure.py`). Base points are standard normal in each of them.
"""

from collections.abc import Collection
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..model.standard_normal import standard_normal_terms
from .structure import Structure

__all__ = ["StateColumns"]


class StateColumns(nn.Module):
    """The columns of one structure; its buffers are in no state.

    Args:
        structure: blocks and edges.
    """

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self._structure = structure
        order = torch.tensor(structure.state_order).long()
        for name, index in (
            ("order", order),
            ("unorder", torch.argsort(order)),
            ("node", torch.tensor(structure.state_node).long()),
        ):
            self.register_buffer(name, index, persistent=False)

    def join(
        self,
        free: Float[Tensor, "batch free"],
        nuisances: Float[Tensor, "batch nuisance"],
    ) -> Float[Tensor, "batch state"]:
        """State columns of latents and nuisances; undone by `split`."""
        joined = torch.cat([free, nuisances], -1)
        return joined.index_select(-1, cast("Tensor", self.order))

    def split(
        self, state: Float[Tensor, "batch state"]
    ) -> tuple[Float[Tensor, "batch free"], Float[Tensor, "batch nuisance"]]:
        """Latents and nuisances of state columns; undone by `join`."""
        joined = state.index_select(-1, cast("Tensor", self.unorder))
        widths = [self._structure.free_dim, self._structure.nuisance_dim]
        free, nuisances = torch.split(joined, widths, -1)
        return free, nuisances

    def of_nodes(self, names: Collection[str]) -> Bool[Tensor, " state"]:
        """Which columns are of nodes that are given with their ancestors.

        Raises:
            ArgumentError: if a name is of no node, or an ancestor is missing.
        """
        node = cast("Tensor", self.node)
        positions = self._structure.ancestral(names)
        return torch.isin(node, torch.tensor(positions, device=node.device))

    def per_node(self, columns: Float[Tensor, "*rows state"]) -> Tensor:
        """Sums over the columns of each node."""
        nodes = columns.new_zeros(*columns.shape[:-1], len(self._structure.blocks))
        return nodes.index_add(-1, cast("Tensor", self.node), columns)

    def base_log_prob(self, base: Float[Tensor, "*rows state"]) -> Tensor:
        """Standard normal log densities per node, in nats."""
        return self.per_node(standard_normal_terms(base))

    def sample_base(
        self, num: int, like: Tensor, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch state"]:
        """Standard normal base points in the precision and on the device of a tensor.

        They are drawn where the generator lives.
        """
        noise = torch.randn(
            num,
            self._structure.state_dim,
            generator=generator,
            dtype=like.dtype,
            device=generator.device if generator is not None else like.device,
        )
        return noise.to(like.device)

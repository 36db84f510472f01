r"""This file is the networks that give each free column's mixture what it reads.

A column is a free column of a latent's block. It reads the free columns of the blocks
of its latent parents, earlier columns of its own block, and the observed columns of its
block, all shifted and scaled. Its own network (`flow/column_networks.py`) ends in the
logits, centres and scales of a mixture, at first nearly standard normal, as residuals
of a linear-Gaussian model are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..flow.column_networks import ColumnNetworks, Part, rounds_of
from ..flow.settings import bounded
from ..flow.structure import Structure
from .mixture import Mixture

__all__ = ["LEAST_SCALE", "Conditioner", "NetworkConfig", "reads_of"]

_SPREAD = 0.25
"""Share of the centres in the variance at first, which is 1: nearly a normal."""
LEAST_SCALE = 1e-3
"""Of a normal of a mixture."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the networks.

    Args:
        components: normals of a mixture.
        layers: layers of a network before the last one.
        hidden: units of each of them.
        last_layer_scale: scale of the last weights at first.
    """

    components: int = bounded(8, 1, 1000)
    layers: int = bounded(3, 1, 64)
    hidden: int = bounded(48, 1, 4096)
    last_layer_scale: float = bounded(0.1, 0, 100)


class Conditioner(ColumnNetworks):
    """A network for each free column.

    Args:
        structure: blocks and edges.
        config: shape of the networks.
        generator: source of the first weights.
    """

    def __init__(
        self, structure: Structure, config: NetworkConfig, generator: torch.Generator
    ) -> None:
        reads = reads_of(structure)
        first = _first_numbers(config.components)
        super().__init__(reads, config, first.reshape(-1), generator)
        waits_for = [[c for c in needed if c < len(reads)] for needed in reads]
        self.rounds = tuple(self.part(columns) for columns in rounds_of(waits_for))

    def log_prob(
        self,
        given: Float[Tensor, "batch given"],
        residual: Float[Tensor, "batch column"],
    ) -> Float[Tensor, "batch column"]:
        """Log densities of the residuals of all columns, in the order of `whole`.

        Args:
            given: see `forward`.
            residual: one for each column, in that order.
        """
        mixture: Mixture = self(given, self.whole)
        return mixture.log_prob(residual.mT).mT

    @property
    def row_size(self) -> int:
        """Numbers that one row needs while all columns are looked at."""
        shapes = self.first_bias.numel() + 4 * self.last_bias.numel()
        return len(self.first) + 2 * shapes

    def forward(self, given: Float[Tensor, "batch given"], part: Part) -> Mixture:
        """Mixtures of a part's columns, [column, component, batch].

        Args:
            given: scaled free columns in state order, then scaled observed values;
                what no column of the part reads is not looked at.
            part: of the columns.
        """
        ends = self.outputs(given, part).mT.contiguous()
        logits, centres, raw = ends.chunk(3, -2)
        scales = functional.softplus(raw) + LEAST_SCALE
        return Mixture(torch.log_softmax(logits, -2), centres, scales)


def reads_of(structure: Structure) -> tuple[tuple[int, ...], ...]:
    """What each free column in state order reads: free columns, then observed ones.

    Observed column c is number ``free_dim`` + c.
    """
    sizes = [len(block.free_columns) for block in structure.blocks]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    reads: list[tuple[int, ...]] = []
    for block, start, size in zip(structure.blocks, starts, sizes, strict=True):
        parents = [starts[j] + k for j in block.latent_parents for k in range(sizes[j])]
        observed = [structure.free_dim + c for c in block.observed_columns]
        for own in range(size):
            reads.append((*parents, *range(start, start + own), *observed))
    return tuple(reads)


def _first_numbers(components: int) -> Tensor:
    """Logits, centres and raw scales of a mixture of mean 0 and variance 1."""
    centres = torch.linspace(-1.0, 1.0, components) * (components > 1)
    if components > 1:
        centres *= (_SPREAD / centres.square().mean()).sqrt()
    scale = (1.0 - centres.square().mean()).sqrt() - LEAST_SCALE
    raw = scale.expm1().log()
    return torch.stack([torch.zeros_like(centres), centres, raw.expand(components)])

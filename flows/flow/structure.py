"""This file is the sparsity of a structured flow: what each latent's block reads.

A flow is a map between a base state and a latent state of the same size. The state is
cut into blocks, one per latent in sampling order (parents before children); block i
holds the free columns of latent i, that is its values mapped to the real line, then
``nuisances`` nuisance columns whose target is a standard normal. A block and all its
columns form a clique, and every column of a parent points to every column of the child.

Layer l of the vector field has one row block per latent. Its column blocks are the
inverse parents of the latent in sampling order, then the latent itself, so the pattern
of every layer is the edge set of the inverse plus the diagonal. As the inverse is
acyclic, the pattern is block lower triangular.

Weights are stored packed (`packing.py`); `building.py` makes a structure of an inverse.

References:
    Weilbach, Beronov, Wood, Harvey, "Structured Conditional Continuous Normalizing
    Flows for Efficient Amortized Inference in Graphical Models", AISTATS 2020,
    section 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import ArgumentError
from .blocks import Factor, StateBlock, check_block, check_factors
from .packing import Packing
from .potentials import Potential, check_potentials

__all__ = ["Factor", "StateBlock", "Structure"]


@dataclass(frozen=True)
class Structure:
    """Blocks of a flow's state, in sampling order.

    Law: block i reads only blocks before it, and itself. Eliminating latents from the
    last to the first, with the factors that hold them, needs no more than that.

    Args:
        blocks: one block per latent, parents before children.
        observed_dim: number of observed columns.
        factors: all factors with latents, of a model that is linear in its latents
            once the data are known; empty for other models.
        potentials: of all factors with latents, where the flow is, or begins with, a
            structured Gaussian.
    """

    blocks: tuple[StateBlock, ...]
    observed_dim: int
    factors: tuple[Factor, ...] = ()
    potentials: tuple[Potential, ...] = ()

    def __post_init__(self) -> None:
        free = sorted(c for block in self.blocks for c in block.free_columns)
        if free != list(range(len(free))):
            raise ArgumentError.at(
                "structure",
                "free columns of the blocks do not tile the free coordinates",
                "each of 0..n-1 once",
                f"{free}",
            )
        for position, block in enumerate(self.blocks):
            check_block(position, block, self.observed_dim)
        if self.factors:
            check_factors(self.blocks, self.observed_dim, self.factors)
        if self.potentials:
            check_potentials(self.blocks, self.observed_dim, self.potentials)

    @property
    def names(self) -> tuple[str, ...]:
        """Latent names in sampling order: the order of per-node log densities."""
        return tuple(block.name for block in self.blocks)

    @cached_property
    def free_dim(self) -> int:
        """Number of free latent columns."""
        return sum(len(block.free_columns) for block in self.blocks)

    @cached_property
    def nuisance_dim(self) -> int:
        """Number of nuisance columns."""
        return sum(block.nuisances for block in self.blocks)

    @property
    def state_dim(self) -> int:
        """Number of columns of the state."""
        return self.free_dim + self.nuisance_dim

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of state columns of each block."""
        return tuple(block.size for block in self.blocks)

    @cached_property
    def state_order(self) -> tuple[int, ...]:
        """State column -> column of the tensor (free columns, nuisances columns)."""
        order: list[int] = []
        nuisances = self.free_dim
        for block in self.blocks:
            order.extend(block.free_columns)
            order.extend(range(nuisances, nuisances + block.nuisances))
            nuisances += block.nuisances
        return tuple(order)

    @cached_property
    def state_node(self) -> tuple[int, ...]:
        """State column -> position of its block."""
        return tuple(
            i for i, block in enumerate(self.blocks) for _ in range(block.size)
        )

    @cached_property
    def reach(self) -> tuple[frozenset[int], ...]:
        """Blocks that each solved block may depend on: itself and its ancestors."""
        reach: list[frozenset[int]] = []
        for position, block in enumerate(self.blocks):
            reach.append(
                frozenset([position]).union(*(reach[j] for j in block.latent_parents))
            )
        return tuple(reach)

    @cached_property
    def observed_reach(self) -> tuple[frozenset[int], ...]:
        """Observed columns that each solved block may depend on."""
        return tuple(
            frozenset(c for j in reach for c in self.blocks[j].observed_columns)
            for reach in self.reach
        )

    def ancestral(self, names: Iterable[str]) -> tuple[int, ...]:
        """Positions of a set of nodes that holds the ancestors of each of its members.

        Raises:
            ArgumentError: if a name is of no node, or an ancestor is missing.
        """
        wanted = set(names)
        unknown = sorted(wanted.difference(self.names))
        if unknown:
            raise ArgumentError.at(
                "given latents",
                "no latent of this name",
                f"some of {', '.join(self.names[:6])}",
                unknown[0],
            )
        chosen = tuple(i for i, name in enumerate(self.names) if name in wanted)
        for position in chosen:
            missing = sorted(self.reach[position].difference(chosen))
            if missing:
                raise ArgumentError.at(
                    "given latents",
                    f"{self.names[position]} is given without what it depends on "
                    "in the inverse",
                    f"{self.names[missing[0]]} too",
                    ", ".join(self.names[i] for i in chosen),
                )
        return chosen

    def packing(self, rows: Sequence[int], columns: Sequence[int]) -> Packing:
        """Packing of a layer whose block i maps ``columns`` sizes to ``rows[i]``."""
        starts = np.concatenate([[0], np.cumsum(columns)])
        pattern = tuple(
            tuple(
                tuple(range(int(starts[j]), int(starts[j + 1])))
                for j in (*block.latent_parents, position)
            )
            for position, block in enumerate(self.blocks)
        )
        return Packing(tuple(rows), pattern, int(starts[-1]))

    def observed_packing(self, rows: Sequence[int]) -> Packing:
        """Packing of the first layer's weights on observed columns."""
        pattern = tuple((block.observed_columns,) for block in self.blocks)
        return Packing(tuple(rows), pattern, self.observed_dim)

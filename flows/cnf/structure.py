"""This file turns a faithful inverse into the sparsity of a structured flow.

A flow is a map between a base state and a latent state of the same size. The state is
cut into blocks, one per latent in sampling order (parents before children); block i
holds the free columns of latent i, that is its values mapped to the real line, then
``nuisances`` nuisance columns whose target is a standard normal. A block and all its
columns form a clique, and every column of a parent points to every column of the child.

Layer l of the vector field has one row block per latent. Its column blocks are the
inverse parents of the latent in sampling order, then the latent itself, so the pattern
of every layer is the edge set of the inverse plus the diagonal. As the inverse is
acyclic, the pattern is block lower triangular.

Weights are stored packed: the blocks one after the other (row block by row block), each
row-major, output by input. `Packing` says where each packed number stands in the dense
matrix.

References:
    Weilbach, Beronov, Wood, Harvey, "Structured Conditional Continuous Normalizing
    Flows for Efficient Amortized Inference in Graphical Models", AISTATS 2020,
    section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Factor",
    "InverseLike",
    "LayoutLike",
    "Packing",
    "StateBlock",
    "Structure",
    "VariableLike",
    "build_structure",
    "original_edge_count",
]


_MOST_FACTOR_COLUMNS = 256
_MOST_FACTOR_ENTRIES = 100_000


class VariableLike(Protocol):
    """What a structure needs to know of one variable."""

    @property
    def name(self) -> str:
        """See `flows.model.layout.Variable`."""
        ...

    @property
    def start(self) -> int:
        """See `flows.model.layout.Variable`."""
        ...

    @property
    def stop(self) -> int:
        """See `flows.model.layout.Variable`."""
        ...

    @property
    def free_start(self) -> int:
        """See `flows.model.layout.Variable`."""
        ...

    @property
    def free_stop(self) -> int:
        """See `flows.model.layout.Variable`."""
        ...


class LayoutLike(Protocol):
    """What a structure needs to know of the model's layout."""

    @property
    def latents(self) -> Sequence[VariableLike]:
        """Latent variables."""
        ...

    @property
    def observed(self) -> Sequence[VariableLike]:
        """Observed variables."""
        ...


class InverseLike(Protocol):
    """What a structure needs to know of the inverse."""

    @property
    def latents(self) -> Sequence[str]:
        """Names in sampling order."""
        ...

    @property
    def parents(self) -> Mapping[str, Sequence[str]]:
        """Latent and observed parents by name."""
        ...


@dataclass(frozen=True, slots=True)
class StateBlock:
    """One latent's part of the state.

    Args:
        name: the latent's name.
        free_columns: its columns in the tensor of free coordinates.
        nuisances: number of nuisance columns.
        latent_parents: positions, in sampling order, of the blocks it reads.
        observed_columns: columns of the observed tensor it reads.
    """

    name: str
    free_columns: tuple[int, ...]
    nuisances: int
    latent_parents: tuple[int, ...]
    observed_columns: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of state columns."""
        return len(self.free_columns) + self.nuisances


@dataclass(frozen=True, slots=True)
class Factor:
    """What a factor of the model depends on (`factors.py`).

    Args:
        latents: columns of the tensor of free coordinates.
        observed: columns of the observed tensor.
        is_of_observed: whether it is the density of the first of the observed columns
            given the others; if not, of the first of the latents' columns.
    """

    latents: tuple[int, ...]
    observed: tuple[int, ...]
    is_of_observed: bool


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
    """

    blocks: tuple[StateBlock, ...]
    observed_dim: int
    factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        free = sorted(c for block in self.blocks for c in block.free_columns)
        if not self.blocks or free != list(range(len(free))):
            raise ValueError(
                "structure: free columns of the blocks do not tile the free "
                f"coordinates; expected each of 0..n-1 once; got {free}"
            )
        for position, block in enumerate(self.blocks):
            _check_block(position, block, self.observed_dim)
        if self.factors:
            _check_factors(self)

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
            ValueError: if a name is of no node, or an ancestor is missing.
        """
        wanted = set(names)
        unknown = sorted(wanted.difference(self.names))
        if unknown:
            raise ValueError(
                f"given latents: no latent of this name; expected some of "
                f"{', '.join(self.names[:6])}; got {unknown[0]}"
            )
        chosen = tuple(i for i, name in enumerate(self.names) if name in wanted)
        for position in chosen:
            missing = sorted(self.reach[position].difference(chosen))
            if missing:
                raise ValueError(
                    f"given latents: {self.names[position]} is given without what it "
                    f"depends on in the inverse; expected {self.names[missing[0]]} "
                    f"too; got {', '.join(self.names[i] for i in chosen)}"
                )
        return chosen

    def packing(self, rows: Sequence[int], columns: Sequence[int]) -> "Packing":
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

    def observed_packing(self, rows: Sequence[int]) -> "Packing":
        """Packing of the first layer's weights on observed columns."""
        pattern = tuple((block.observed_columns,) for block in self.blocks)
        return Packing(tuple(rows), pattern, self.observed_dim)


@dataclass(frozen=True)
class Packing:
    """Where the packed weights of one layer stand in its dense matrix.

    Args:
        rows: number of rows of each row block.
        pattern: for each row block its column blocks, each a tuple of dense columns.
        num_columns: number of columns of the dense matrix.
    """

    rows: tuple[int, ...]
    pattern: tuple[tuple[tuple[int, ...], ...], ...]
    num_columns: int

    @property
    def num_rows(self) -> int:
        """Number of rows of the dense matrix."""
        return sum(self.rows)

    @cached_property
    def block_starts(self) -> tuple[tuple[int, ...], ...]:
        """Packed position of the first entry of each block, by row block."""
        starts: list[tuple[int, ...]] = []
        position = 0
        for height, blocks in zip(self.rows, self.pattern, strict=True):
            row: list[int] = []
            for columns in blocks:
                row.append(position)
                position += height * len(columns)
            starts.append(tuple(row))
        return tuple(starts)

    @cached_property
    def size(self) -> int:
        """Number of packed weights."""
        return sum(
            height * sum(len(columns) for columns in blocks)
            for height, blocks in zip(self.rows, self.pattern, strict=True)
        )

    def dense_index(self) -> Tensor:
        """Position in the flattened dense matrix of each packed weight."""
        parts: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = []
        first_row = 0
        for height, blocks in zip(self.rows, self.pattern, strict=True):
            lines = np.arange(first_row, first_row + height)[:, None]
            for columns in blocks:
                inside = lines * self.num_columns + np.asarray(columns, dtype=np.int64)
                parts.append(inside.reshape(-1))
            first_row += height
        joined = np.concatenate(parts) if parts else np.zeros(0)
        return torch.from_numpy(joined.astype(np.int64))

    def fan_in(self) -> Tensor:
        """Number of weights in the row of each packed weight."""
        parts = [
            np.full(height * len(columns), sum(len(c) for c in blocks))
            for height, blocks in zip(self.rows, self.pattern, strict=True)
            for columns in blocks
        ]
        joined = np.concatenate(parts) if parts else np.zeros(0)
        return torch.from_numpy(joined.astype(np.int64))

    def last_block_index(self, row_blocks: Sequence[int]) -> Tensor:
        """Packed positions of the last (diagonal) blocks, [row block, row, column].

        The row blocks named must have equal shapes.
        """
        parts = []
        for i in row_blocks:
            shape = (self.rows[i], len(self.pattern[i][-1]))
            start = self.block_starts[i][-1]
            parts.append(np.arange(start, start + shape[0] * shape[1]).reshape(shape))
        return torch.from_numpy(np.stack(parts).astype(np.int64))


def build_structure(
    inverse: InverseLike,
    layout: LayoutLike,
    nuisances: int | Mapping[str, int] = 0,
) -> Structure:
    """The structure of a flow with the edges of an inverse.

    Args:
        inverse: latents in sampling order, parents by name.
        layout: columns of latents and observed variables.
        nuisances: nuisance columns per latent, or per latent's name (others get 0).
    """
    latents = {variable.name: variable for variable in layout.latents}
    observed = {variable.name: variable for variable in layout.observed}
    if set(inverse.latents) != set(latents):
        raise ValueError(
            "structure: inverse and layout have other latents; expected "
            f"{sorted(latents)}; got {sorted(inverse.latents)}"
        )
    position = {name: i for i, name in enumerate(inverse.latents)}
    blocks = []
    for name in inverse.latents:
        parents = inverse.parents[name]
        unknown = [p for p in parents if p not in position and p not in observed]
        if unknown:
            raise ValueError(
                f"structure: unknown parent of {name}; expected a latent or an "
                f"observed variable of the layout; got {unknown[0]}"
            )
        variable = latents[name]
        count = nuisances if isinstance(nuisances, int) else nuisances.get(name, 0)
        columns = [
            column
            for parent in parents
            if parent in observed
            for column in range(observed[parent].start, observed[parent].stop)
        ]
        blocks.append(
            StateBlock(
                name=name,
                free_columns=tuple(range(variable.free_start, variable.free_stop)),
                nuisances=count,
                latent_parents=tuple(
                    sorted(position[p] for p in parents if p in position)
                ),
                observed_columns=tuple(sorted(columns)),
            )
        )
    return Structure(tuple(blocks), sum(v.stop - v.start for v in observed.values()))


def original_edge_count(structure: Structure) -> int:
    """Entries of one layer under the augmentation of the paper's published code.

    There a nuisance reads what its node reads and the nuisances of the node's parents,
    while a node reads its own nuisances and its parents, not their nuisances. So block
    (i <- i) is full and block (i <- j) lacks the entries from nuisances of j to i.
    Self-loops are counted.
    """
    total = 0
    for block in structure.blocks:
        total += block.size**2
        for j in block.latent_parents:
            parent = structure.blocks[j]
            total += block.size * parent.size
            total -= len(block.free_columns) * parent.nuisances
    return total


def _check_block(position: int, block: StateBlock, observed_dim: int) -> None:
    where = f"structure, latent {block.name}"
    parents = block.latent_parents
    if not block.free_columns:
        raise ValueError(
            f"{where}: no free column; expected a continuous latent; got a latent "
            "without continuous values"
        )
    if block.nuisances < 0:
        raise ValueError(
            f"{where}: number of nuisances columns; expected 0 or more; "
            f"got {block.nuisances}"
        )
    if list(parents) != sorted(set(parents)) or any(
        not 0 <= j < position for j in parents
    ):
        raise ValueError(
            f"{where}: latent parents; expected increasing positions below "
            f"{position}, as parents come first in sampling order; got {parents}"
        )
    columns = block.observed_columns
    if len(set(columns)) != len(columns) or any(
        not 0 <= c < observed_dim for c in columns
    ):
        raise ValueError(
            f"{where}: observed columns; expected distinct columns below "
            f"{observed_dim}; got {columns}"
        )


def _check_factors(structure: Structure) -> None:
    """Eliminates latents, last first, and checks what each conditional depends on."""
    size = len(structure.factors) * (1 + structure.free_dim)
    if structure.free_dim > _MOST_FACTOR_COLUMNS or size > _MOST_FACTOR_ENTRIES:
        raise ValueError(
            "structure: factors; expected those of a model with at most "
            f"{_MOST_FACTOR_COLUMNS} columns, and {_MOST_FACTOR_ENTRIES} columns of "
            f"factors; got {structure.free_dim}, and {size}"
        )
    owner = {
        c: i for i, block in enumerate(structure.blocks) for c in block.free_columns
    }
    waiting: list[list[tuple[set[int], set[int]]]] = [[] for _ in structure.blocks]
    own: set[int] = set()
    known = set(range(structure.observed_dim))
    for number, factor in enumerate(structure.factors):
        columns = set(factor.observed)
        if (
            not factor.latents
            or not set(factor.latents) <= set(owner)
            or not columns <= known
            or len(set(factor.latents)) != len(factor.latents)
            or len(columns) != len(factor.observed)
            or (factor.is_of_observed and not columns)
        ):
            raise ValueError(
                f"structure, factor {number}: columns; expected distinct columns of "
                f"latents and observed values; got {factor.latents}, {factor.observed}"
            )
        if not factor.is_of_observed:
            own.add(factor.latents[0])
        nodes = {owner[c] for c in factor.latents}
        waiting[max(nodes)].append((nodes, columns))
    if own != set(owner):
        raise ValueError(
            "structure: factors; expected the density of every latent among them; got "
            f"none of column {min(set(owner) - own)}"
        )
    for i in range(len(structure.blocks) - 1, -1, -1):
        block = structure.blocks[i]
        nodes = set().union(*(nodes for nodes, _ in waiting[i])) - {i}
        columns = set().union(*(columns for _, columns in waiting[i]))
        if not (
            nodes <= set(block.latent_parents)
            and columns <= set(block.observed_columns)
        ):
            raise ValueError(
                f"structure, latent {block.name}: what it reads; expected all that "
                "eliminating later latents from the factors makes it depend on; got "
                f"blocks {block.latent_parents}, columns {block.observed_columns}"
            )
        if nodes:
            waiting[max(nodes)].append((nodes, columns))

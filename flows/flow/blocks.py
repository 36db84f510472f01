"""This file says what a latent's block of a flow's state reads, and a factor.

A block holds the free columns of one latent, then its nuisance columns; it reads blocks
before it in sampling order, and observed columns. A factor of the model (`factors.py`)
joins columns of latents and of observed values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError

__all__ = ["Factor", "StateBlock", "check_block", "check_eliminated", "check_factors"]


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


def check_block(position: int, block: StateBlock, observed_dim: int) -> None:
    """Refuses a block that breaks the law of a structure.

    Raises:
        ArgumentError: with what is wrong.
    """
    parents, columns = block.latent_parents, block.observed_columns
    if not block.free_columns:
        what = "no free column"
        expected = "a continuous latent"
        got = "a latent without continuous values"
    elif block.nuisances < 0:
        what = "number of nuisance columns"
        expected, got = "0 or more", f"{block.nuisances}"
    elif list(parents) != sorted(set(parents)) or any(
        not 0 <= j < position for j in parents
    ):
        what = "latent parents"
        expected = (
            f"increasing positions below {position}, as parents come first in sampling "
            "order"
        )
        got = f"{parents}"
    elif len(set(columns)) != len(columns) or any(
        not 0 <= c < observed_dim for c in columns
    ):
        what = "observed columns"
        expected, got = f"distinct columns below {observed_dim}", f"{columns}"
    else:
        return
    raise ArgumentError.at(f"structure, latent {block.name}", what, expected, got)


_MOST_FACTOR_COLUMNS = 256
"""Columns of latents, of a model with factors."""
_MOST_FACTOR_ENTRIES = 100_000
"""Numbers of all factors, each a row over these columns."""


def check_factors(
    blocks: Sequence[StateBlock], observed_dim: int, factors: Sequence[Factor]
) -> None:
    """Eliminates latents, last first, and checks what each conditional depends on.

    Raises:
        ArgumentError: if a factor is none, or an edge would be needed that lacks.
    """
    owner = {c: i for i, block in enumerate(blocks) for c in block.free_columns}
    size = len(factors) * (1 + len(owner))
    if len(owner) > _MOST_FACTOR_COLUMNS or size > _MOST_FACTOR_ENTRIES:
        raise ArgumentError.at(
            "structure",
            "factors",
            f"those of a model with at most {_MOST_FACTOR_COLUMNS} columns, and "
            f"{_MOST_FACTOR_ENTRIES} columns of factors",
            f"{len(owner)}, and {size}",
        )
    scopes = []
    for number, factor in enumerate(factors):
        _check_columns(number, factor, set(owner), set(range(observed_dim)))
        nodes = {owner[c] for c in factor.latents}
        scopes.append((nodes, set(factor.observed)))
    missing = set(owner) - {f.latents[0] for f in factors if not f.is_of_observed}
    if missing:
        raise ArgumentError.at(
            "structure",
            "factors",
            "the density of every latent among them",
            f"none of column {min(missing)}",
        )
    check_eliminated(blocks, scopes, "factors")


def check_eliminated(
    blocks: Sequence[StateBlock],
    scopes: Iterable[tuple[set[int], set[int]]],
    whose: str,
) -> None:
    """Eliminates latents, last first, and checks what each conditional depends on.

    Args:
        blocks: In sampling order.
        scopes: Positions of the blocks, one at least, and the observed columns that are
            joined, of each.
        whose: What the scopes are of, for the message.

    Raises:
        ArgumentError: if an edge would be needed that lacks.
    """
    waiting: list[list[tuple[set[int], set[int]]]] = [[] for _ in blocks]
    for nodes, columns in scopes:
        waiting[max(nodes)].append((nodes, columns))
    for i, block in reversed(list(enumerate(blocks))):
        nodes = set().union(*(nodes for nodes, _ in waiting[i])) - {i}
        columns = set().union(*(columns for _, columns in waiting[i]))
        if not (
            nodes <= set(block.latent_parents)
            and columns <= set(block.observed_columns)
        ):
            raise ArgumentError.at(
                f"structure, latent {block.name}",
                "what it reads",
                f"all that eliminating later latents from the {whose} makes "
                "it depend on",
                f"blocks {block.latent_parents}, columns {block.observed_columns}",
            )
        if nodes:
            waiting[max(nodes)].append((nodes, columns))


def _check_columns(
    number: int, factor: Factor, latents: set[int], known: set[int]
) -> None:
    for own, allowed in ((factor.latents, latents), (factor.observed, known)):
        is_needed = allowed is latents or factor.is_of_observed
        if (
            len(set(own)) < len(own)
            or not set(own) <= allowed
            or (is_needed and not own)
        ):
            raise ArgumentError.at(
                f"structure, factor {number}",
                "columns",
                "distinct columns of latents and observed values",
                f"{factor.latents}, {factor.observed}",
            )

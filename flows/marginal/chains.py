r"""This file finds chains among tables, and sums each by one compiled loop.

A chain is many variables of as many states, of which each shares tables with the next,
the same ones from link to link, and with no others: the steps of a hidden Markov model
whose transitions do not change. Its sum over all paths,

    log Σ exp(Σ_t f[t, s_t] + Σ_t g[s_t, s_t+1]),

takes one pass forward and one backward (`kernels/chains.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .joins import Table
from .known_slopes import as_array, loop_of, with_slopes
from .reads import IntArray, Numbers

__all__ = ["Chain", "find_chains"]

_FEWEST = 50
"""Steps from which on the loop is worth being loaded."""
_MOST_STATES = 16
_MOST_NUMBERS = 2**25
"""More are gone through in parts of rows, elsewhere."""

_Entries = tuple[int, IntArray]
"""The block of a table, and which of its numbers it has."""


@dataclass(frozen=True, eq=False)
class _Tables:
    """A table of each of some steps.

    Attributes:
        block: Of their numbers.
        steps: Which steps; None for all.
        entries: Which numbers, step by step.
    """

    block: int
    steps: Int[Tensor, " step"] | None
    entries: Int[Tensor, " step_state"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Variables of which each shares tables with the next.

    Attributes:
        variables: Their numbers.
        tables: Numbers of all their tables.
        states: How many states each has.
        own: Their tables of one variable.
        links: Block and entries of the tables that two share.
    """

    variables: tuple[int, ...]
    tables: tuple[int, ...]
    states: int
    own: tuple[_Tables, ...]
    links: tuple[tuple[int, Int[Tensor, " pair"]], ...]

    def log_sum(self, blocks: Sequence[Numbers]) -> Float[Tensor, " row"] | None:
        """Return the sum of each row, with gradients; None if it is found otherwise."""
        count, states = len(self.variables), self.states
        rows = max(block.shape[1] for block in blocks)
        loop = loop_of("chains", "chain_sums", (1, 1, 1), (1, 1, 1))
        if loop is None or count * states * rows > _MOST_NUMBERS:
            return None
        pairs = sum(blocks[block][entries] for block, entries in self.links)
        pairs = torch.as_tensor(pairs).expand(-1, rows).reshape(states, states, rows)
        steps = pairs.new_zeros(count, states, rows)
        for each in self.own:
            part = blocks[each.block][each.entries].expand(-1, rows)
            part = part.reshape(-1, states, rows)
            steps = (
                steps + part
                if each.steps is None
                else steps.index_add(0, each.steps, part)
            )
        if bool(torch.isnan(steps.sum() + pairs.sum())):
            return None
        found = loop(as_array(steps), as_array(pairs))
        return found and with_slopes(found[0], found[1:], (steps, pairs))


def find_chains(
    cardinalities: Sequence[int], tables: Sequence[Table]
) -> tuple[Chain, ...]:
    """Return the chains among tables.

    Args:
        cardinalities: Number of states of each variable.
        tables: All tables that hold any of them.
    """
    held: list[list[int]] = [[] for _ in cardinalities]
    near: list[dict[int, None]] = [{} for _ in cardinalities]
    is_apart = [False] * len(cardinalities)
    for number, table in enumerate(tables):
        for variable in table.scope:
            held[variable].append(number)
            near[variable].update(dict.fromkeys(table.scope))
            is_apart[variable] |= len(table.scope) > 2
    for variable, others in enumerate(near):
        others.pop(variable, None)
        is_apart[variable] |= len(others) > 2
    found = []
    for start, others in enumerate(near):
        if len(others) != 1 or is_apart[start]:
            continue
        path = _path(start, near)
        if start < path[-1] and not any(is_apart[v] for v in path):
            chain = _chain(path, cardinalities, tables, held)
            found += [chain] if chain else []
    return tuple(found)


def _path(start: int, near: Sequence[dict[int, None]]) -> list[int]:
    """Return the variables from an end to the other, or to where a way parts."""
    path, before, here = [start], -1, start
    while len(ahead := [v for v in near[here] if v != before]) == 1:
        before, here = here, ahead[0]
        path.append(here)
    return path


def _chain(
    path: Sequence[int],
    cardinalities: Sequence[int],
    tables: Sequence[Table],
    held: Sequence[Sequence[int]],
) -> Chain | None:
    states = cardinalities[path[0]]
    if len(path) < _FEWEST or states > _MOST_STATES:
        return None
    if any(cardinalities[variable] != states for variable in path):
        return None
    step = {variable: number for number, variable in enumerate(path)}
    own: dict[tuple[int, int], list[tuple[int, IntArray]]] = {}
    links: list[list[_Entries]] = [[] for _ in path[1:]]
    numbers: dict[int, None] = {}
    for variable in path:
        seen: dict[int, int] = {}
        for number in held[variable]:
            table, is_new = tables[number], number not in numbers
            numbers[number] = None
            if len(table.scope) == 1:
                place = seen[table.block] = seen.get(table.block, -1) + 1
                of_step = (step[variable], table.entries)
                own.setdefault((table.block, place), []).append(of_step)
            elif is_new:
                first, second = (step[v] for v in table.scope)
                entries = table.entries if first < second else table.entries.T
                links[min(first, second)].append((table.block, entries))
    if any(not _are_same(links[0], link) for link in links):
        return None
    return Chain(
        tuple(path),
        tuple(numbers),
        states,
        tuple(_tables(block, each, len(path)) for (block, _), each in own.items()),
        tuple(
            (block, torch.from_numpy(np.ascontiguousarray(entries).reshape(-1)))
            for block, entries in links[0]
        ),
    )


def _are_same(one: Sequence[_Entries], other: Sequence[_Entries]) -> bool:
    return len(one) == len(other) and all(
        first[0] == second[0] and np.array_equal(first[1], second[1])
        for first, second in zip(one, other, strict=True)
    )


def _tables(block: int, each: Sequence[tuple[int, IntArray]], count: int) -> _Tables:
    steps = [step for step, _ in each]
    entries = np.concatenate([entries for _, entries in each])
    is_all = steps == list(range(count))
    return _Tables(
        block, None if is_all else torch.tensor(steps), torch.from_numpy(entries)
    )

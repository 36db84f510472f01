r"""This file makes the tables over discrete latents whose product is a model's density.

Node v contributes its log density given its parents, a table T_v over the discrete
latents among v and its parents. An entry is the node's link function at one
configuration (`forms.py`); it is lowered like any link function, so equal entries are
one slot and all of them run as the batches of one schedule. Entries that depend on
nothing are numbers from the start and stay one number for all rows; those of many
observed nodes that are alike are one tensor (`alike.py`).

Where a link function reads so many discrete latents that its table would be wide, parts
of it that take few values become variables of their own (`folding.py`); where it reads
nothing else, the table is computed as one (`wide.py`).

An entry that has no value (a parameter without meaning at this configuration, an index
outside its vector) is nan: it counts as impossible where the configuration has mass 0
anyway, and is an error elsewhere. A link function without meaning at every
configuration has none at all.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.expression import Value

from ..model.dag import Dag
from ..model.lowered import Lowered
from ..model.lowered_graph import LoweredGraph
from ..model.schedule import Schedule
from .alike import AlikeNodes
from .elimination import Elimination, Table
from .limits import MOST_ENTRIES, MOST_VALUES, TooWideError, too_wide
from .node_tables import NodeTables
from .order import elimination_order
from .reads import IntArray
from .wide import WideTable

__all__ = ["NUM_BLOCKS", "DiscreteTables", "discrete_tables"]

NUM_BLOCKS = 4
"""Constants, operations, wide tables, nodes that are alike."""
_MOST_IN_ALL = 2**25
"""Most entries of all joined tables where one is larger than for many rows."""
_DEAR = 2**15
"""Where a row has more numbers than this, other ways are looked at."""
_MANY = 8
"""So many nodes that are alike are worth a tensor of their own."""
_NOTHING = Table((), np.zeros(0, dtype=np.int64))
"""A table without entries, which adds nothing."""


@dataclass(frozen=True, eq=False)
class DiscreteTables:
    """A density as tables over the discrete latents.

    Attributes:
        discrete: Names of the discrete latents that are summed out, in the order of the
            graph.
        values: Every value that each of them can take.
        truncated: Names of those whose support is infinite, cut off.
        tables: Scopes and entries, by node; then of variables that others determine,
            which come after the discrete latents in number. Entries are in blocks.
        elimination: How to sum them out.
        dag: Entries as operations.
        constants: Block 0: entries that are numbers, [entry, 1].
        slots: Block 1: slots of entries that depend on latents or data.
        wide: Block 2: tables that are computed as one, by number, in order.
        alike: Block 3: observed nodes that are alike, in order.
        lowered: The specialised forms of every latent that is not summed out.
    """

    discrete: tuple[str, ...]
    values: Mapping[str, tuple[Value, ...]]
    truncated: tuple[str, ...]
    tables: tuple[Table, ...]
    elimination: Elimination
    dag: Dag
    constants: Float[Tensor, "entry 1"]
    slots: tuple[int, ...]
    wide: Mapping[int, WideTable]
    alike: tuple[AlikeNodes, ...]
    lowered: Mapping[str, tuple[Lowered, ...]]

    @cached_property
    def row_entries(self) -> int:
        """How many numbers the sum over one row is made of, or of the largest table."""
        own = sum(table.entries.size for table in self.tables if table.block)
        return max(own, self.elimination.largest)


def discrete_tables(
    lowered: LoweredGraph,
    *,
    cuts: Mapping[str, int] | None = None,
    widen: int = 1,
    sampled: Collection[str] = (),
    most_counted: int = MOST_VALUES,
) -> DiscreteTables:
    """Return the tables of a graph.

    Args:
        lowered: A graph with discrete latents, as slots.
        cuts: Largest value kept of latents whose support is infinite and whose
            parameters are not known beforehand.
        widen: Factor on the log of the mass that other cuts leave out.
        sampled: Discrete latents that are not summed out: rows hold their values.
        most_counted: Most values of a latent whose cut is given.

    Raises:
        UnboundedError: If a support is infinite, its parameters not known, and no cut
            is given.
        TooWideError: If a table is too large.
        ModelError: If a link function has no meaning.
    """
    of = partial(NodeTables, lowered, cuts or {}, widen, sampled, most_counted)

    def made(*, folds: bool, is_narrow: bool = False) -> DiscreteTables:
        nodes = of(folds=folds, is_narrow=is_narrow)
        for node in lowered.graph.nodes:
            nodes.add(node)
        nodes.add_folded()
        return _Assembly(nodes).tables()

    with suppress(TooWideError):
        return made(folds=False, is_narrow=True)
    folded = None
    with suppress(TooWideError):
        folded = made(folds=True)
        if folded.row_entries <= _DEAR:
            return folded
    try:
        plain = made(folds=False)  # folding may make tables wider
    except TooWideError:
        if folded is None:
            raise
        return folded
    if folded is not None and folded.row_entries <= plain.row_entries:
        return folded
    return plain


class _Assembly:
    """Puts the tables of nodes together."""

    def __init__(self, nodes: NodeTables) -> None:
        self.nodes = nodes
        self.dag = nodes.dag
        self._depends: dict[int, bool] = {}

    def tables(self) -> DiscreteTables:
        nodes = self.nodes
        sizes = [len(nodes.values[name]) for name in nodes.number]
        order = elimination_order(sizes, [found.scope for found in nodes.found])
        is_large = order.largest > MOST_ENTRIES and order.total > _MOST_IN_ALL
        if order.largest > nodes.most or is_large:
            raise too_wide(nodes.whole.graph, order.total)
        blocks: tuple[dict[int, int], dict[int, int]] = ({}, {})
        tables = [_NOTHING] * len(nodes.found)
        wide, alike = self._wide_tables(tables, sizes), self._alike(tables, sizes)
        placed: dict[int, tuple[IntArray, int]] = {}
        for number, found in enumerate(nodes.found):
            slots = found.slots
            if slots is None:
                continue
            if id(slots) not in placed:  # one list of all latents that are alike
                placed[id(slots)] = self._placed(slots, blocks)
            places, block = placed[id(slots)]
            shape = [sizes[v] for v in found.scope]
            tables[number] = Table(found.scope, places.reshape(shape), block)
        return DiscreteTables(
            nodes.latents,
            {name: nodes.values[name] for name in nodes.latents},
            tuple(nodes.supports.truncated),
            tuple(tables),
            Elimination(sizes, tables, num_blocks=NUM_BLOCKS, order=order),
            self.dag,
            self._numbers(tuple(blocks[0])),
            tuple(blocks[1]),
            wide,
            alike,
            dict(nodes.lowered),
        )

    def _placed(
        self, slots: list[int], blocks: tuple[dict[int, int], dict[int, int]]
    ) -> tuple[IntArray, int]:
        """Return where the entries of a table stand, and in which block."""
        different = dict.fromkeys(slots)  # few, of a variable that others determine
        number = int(any(map(self._reads_source, different)))
        block = blocks[number]
        place = {slot: block.setdefault(slot, len(block)) for slot in different}
        return np.array([place[slot] for slot in slots]), number

    def _wide_tables(
        self, tables: list[Table], sizes: Sequence[int]
    ) -> dict[int, WideTable]:
        """Return the wide tables of observed nodes, one for each scope."""
        nodes = self.nodes
        made: dict[int, WideTable] = {}
        first = 0
        for names, places in sorted(nodes.wide.items(), key=lambda item: item[1]):
            each = [nodes.whole.graph.nodes[place].name for place in places]
            table = WideTable.of(nodes.whole, names, nodes.values, each)
            made[places[0]] = table
            scope = nodes.found[places[0]].scope
            entries = np.arange(first, first + table.size)
            first += table.size
            shape = [sizes[v] for v in scope]
            tables[places[0]] = Table(scope, entries.reshape(shape), 2)
        return made

    def _alike(
        self, tables: list[Table], sizes: Sequence[int]
    ) -> tuple[AlikeNodes, ...]:
        """Return the nodes that are alike; a few have slots instead."""
        nodes = self.nodes
        made: list[AlikeNodes] = []
        first = 0
        for forms, places in nodes.alike.values():
            each = [nodes.whole.graph.nodes[place] for place in places]
            if len(places) < _MANY:
                for node, place in zip(each, places, strict=True):
                    nodes.found[place].slots = nodes.observed(node, forms)
                continue
            different = dict.fromkeys(form.branches[0] for form in forms)
            number = {branch: n for n, branch in enumerate(different)}
            variables = [nodes.whole.layout.variable(node.name) for node in each]
            columns = np.array([v.columns for v in variables])
            made.append(
                AlikeNodes.of(
                    tuple(different),
                    forms[0].shape,
                    tuple(places),
                    torch.from_numpy(columns),
                )
            )
            rows = np.array([number[form.branches[0]] for form in forms])
            rows = first + len(places) * rows
            first += len(different) * len(places)
            for position, place in enumerate(places):
                scope = nodes.found[place].scope
                shape = [sizes[v] for v in scope]
                tables[place] = Table(scope, (rows + position).reshape(shape), 3)
        return tuple(made)

    # -------------------------------------------------------------- numbers

    def _reads_source(self, slot: int) -> bool:
        """Whether a slot depends on a variable."""
        known = self._depends
        stack = [slot]
        while stack:
            current = stack[-1]
            if current in known:
                stack.pop()
                continue
            operation = self.dag[current]
            missing = [i for i in operation.inputs if i not in known]
            if missing:
                stack.extend(missing)
                continue
            known[current] = operation.name == "variable" or any(
                known[i] for i in operation.inputs
            )
            stack.pop()
        return known[slot]

    def _numbers(self, slots: tuple[int, ...]) -> Tensor:
        like = torch.empty(0, dtype=torch.float64)
        if not slots:
            return like.new_zeros(0, 1)
        (found,) = Schedule.of(self.dag, [], [slots]).run([], num_rows=1, like=like)
        return found.expand(len(slots), 1).clone()

r"""This file makes the tables over discrete latents whose product is a model's density.

Node v contributes its log density given its parents, a table T_v over the discrete
latents among v and its parents. An entry is the node's link function with one
configuration put in (`specialise.py`); it is lowered like any link function, so equal
entries are one slot and all of them run as the batches of one schedule. Entries that
depend on nothing are numbers from the start and stay one number for all rows.

Where a link function reads so many discrete latents that its table would be wide, parts
of it that take few values become variables of their own (`folding.py`).

An entry that has no value (a parameter without meaning at this configuration, an index
outside its vector) is nan: it counts as impossible where the configuration has mass 0
anyway, and is an error elsewhere. A link function without meaning at every
configuration has none at all.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.expression import Constant, Value, is_false
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.language.primitives import equal

from ..errors import ModelError
from ..model.dag import Dag
from ..model.lowered import Lowered
from ..model.lowering import Lowering
from ..model.schedule import Schedule
from .cuts import LOG_TAIL
from .elimination import Elimination, Table
from .folding import Folded, Folder
from .limits import MOST_ENTRIES, TooWideError, too_wide
from .order import elimination_order
from .specialise import Specialiser
from .supports import Supports

__all__ = ["NARROW", "DiscreteTables", "discrete_tables"]

_MOST_OWN = 2**16
"""Most entries of the table of one link function, each lowered by itself."""
_MOST_WIDE = 2**14
"""The same of a link function that reads three discrete latents or more."""
_MOST_FORMS = 2**16
"""Most of them over all such link functions."""
_UNFOLDED_OWN = 2**10
_UNFOLDED_ENTRIES = 2**14
"""Beyond these, link functions are folded."""
NARROW = 2**6
"""Tables up to this size are not worth folding."""

_Form = Lowered | ModelError | None
"""A node at a configuration; or why it has no meaning there; None: it counts not."""


@dataclass(frozen=True, eq=False)
class DiscreteTables:
    """A density as tables over the discrete latents.

    Attributes:
        discrete: Names of the discrete latents that are summed out, in the order of the
            graph.
        values: Every value that each of them can take.
        truncated: Names of those whose support is infinite, cut off.
        tables: Scopes and entries, by node; then of variables that others determine,
            which come after the discrete latents in number.
        elimination: How to sum them out.
        dag: All entries as operations.
        slots: Slots of the entries that depend on latents or data.
        constants: The other entries, [entry, 1].
        lowered: The specialised forms of every latent that is not summed out.
    """

    discrete: tuple[str, ...]
    values: Mapping[str, tuple[Value, ...]]
    truncated: tuple[str, ...]
    tables: tuple[Table, ...]
    elimination: Elimination
    dag: Dag
    slots: tuple[int, ...]
    constants: Float[Tensor, "entry 1"]
    lowered: Mapping[str, tuple[Lowered, ...]]


def discrete_tables(
    graph: Graph,
    *,
    cuts: Mapping[str, int] | None = None,
    widen: int = 1,
    sampled: Collection[str] = (),
) -> DiscreteTables:
    """Return the tables of a graph.

    Args:
        graph: With discrete latents.
        cuts: Largest value kept of latents whose support is infinite and whose
            parameters are not known beforehand.
        widen: Factor on the log of the mass that other cuts leave out.
        sampled: Discrete latents that are not summed out: rows hold their values.

    Raises:
        UnboundedError: If a support is infinite, its parameters not known, and no cut
            is given.
        TooWideError: If a table is too large.
        ModelError: If a link function has no meaning.
    """
    make = partial(_Builder, graph, cuts or {}, widen, sampled)
    try:
        return make(folds=False).build()
    except TooWideError:
        return make(folds=True).build()


class _Builder:
    def __init__(
        self,
        graph: Graph,
        cuts: Mapping[str, int],
        widen: int,
        sampled: Collection[str],
        *,
        folds: bool,
    ) -> None:
        self.graph = graph
        self.dag = Dag()
        self.supports = Supports(graph, self.dag, cuts, widen * LOG_TAIL)
        self.lowering = Lowering(self.dag)
        names = [
            node.name
            for node in graph.nodes
            if node.is_discrete and not node.is_observed and node.name not in sampled
        ]
        self.latents = tuple(names)
        self.number = {name: place for place, name in enumerate(names)}
        self.specialiser = Specialiser(names)
        self.values: dict[str, tuple[Value, ...]] = {}
        self.folder = Folder(self.specialiser, self.values) if folds else None
        self.num_wide = 0
        self.lowered: dict[str, tuple[Lowered, ...]] = {}
        self._forms: dict[tuple[int, int], Lowered] = {}
        self._alike: dict[object, tuple[tuple[Value, ...], list[int]]] = {}
        self._alike_forms: dict[object, list[_Form]] = {}
        self._one_of_equal: dict[tuple[int, ...], tuple[Value, ...]] = {}
        self._depends: dict[int, bool] = {}

    def build(self) -> DiscreteTables:
        found = [self._table(node) for node in self.graph.nodes]
        folded = [] if self.folder is None else self.folder.variables
        found += [self._determined(variable) for variable in folded]
        values = {name: self.values[name] for name in self.latents}
        cardinalities = [len(self.values[name]) for name in self.number]
        order = elimination_order(cardinalities, [scope for scope, _ in found])
        if order.largest > (MOST_ENTRIES if self.folder else _UNFOLDED_ENTRIES):
            raise too_wide(self.graph, order.largest)
        blocks: tuple[dict[int, int], dict[int, int]] = ({}, {})
        tables = []
        for scope, slots in found:
            different = dict.fromkeys(slots)  # few, of a variable that others determine
            number = int(any(map(self._reads_source, different)))
            block = blocks[number]
            place = {slot: block.setdefault(slot, len(block)) for slot in different}
            places = np.array([place[slot] for slot in slots])
            shape = [cardinalities[v] for v in scope]
            tables.append(Table(scope, places.reshape(shape), number))
        return DiscreteTables(
            self.latents,
            values,
            tuple(self.supports.truncated),
            tuple(tables),
            Elimination(cardinalities, tables, num_blocks=2, order=order),
            self.dag,
            tuple(blocks[1]),
            self._numbers(tuple(blocks[0])),
            dict(self.lowered),
        )

    def _determined(self, variable: Folded) -> tuple[tuple[int, ...], list[int]]:
        """Return the scope of a variable that others determine, and its entries."""
        names = (*variable.scope, variable.name)
        number = len(variable.values)
        never, always = self.dag.constant(-math.inf), self.dag.constant(0.0)
        slots = np.full((len(variable.places), number), never)
        slots[np.arange(len(variable.places)), variable.places] = always
        return tuple(self.number[name] for name in names), slots.reshape(-1).tolist()

    # -------------------------------------------------------------- one node

    def _table(self, node: Node) -> tuple[tuple[int, ...], list[int]]:
        """Return a node's scope, and the slot of every entry in row-major order."""
        names, size = self._scope(node)
        if self.folder is not None and size > NARROW:
            node = self._folded(self.folder, node)
            names, size = self._scope(node)
        most = _MOST_OWN
        if len(names) > 2:
            most = _UNFOLDED_OWN if self.folder is None else _MOST_WIDE
        if size > most:
            raise too_wide(self.graph, size)
        scope = tuple(self.number[name] for name in names)
        if node.name in self.number:
            self.values[node.name], slots = self._summed_out(node, names)
            return (*scope, self.number[node.name]), slots
        forms = self._everywhere(node, names)
        if not node.is_observed:
            kept = {id(form): form for form in forms if isinstance(form, Lowered)}
            self.lowered[node.name] = tuple(kept.values())
        return scope, [self._term(form, self._own(node, form)) for form in forms]

    def _summed_out(
        self, node: Node, names: Sequence[str]
    ) -> tuple[tuple[Value, ...], list[int]]:
        """Return the values of a latent, and the slot of every entry of its table."""
        key = self._key(node, names)
        if key in self._alike:
            return self._alike[key]
        forms = self._everywhere(node, names)
        found = self.supports.of(node, [f for f in forms if isinstance(f, Lowered)])
        same = tuple(id(self.specialiser.table.constant(value)) for value in found)
        values = self._one_of_equal.setdefault(same, found)
        slots = [
            self._term(form, self._encoded(form, value))
            for form in forms
            for value in values
        ]
        # A cut is noted of each latent by its name.
        if node.name not in self.supports.truncated:
            self._alike[key] = values, slots
        return values, slots

    def _key(self, node: Node, names: Sequence[str]) -> tuple[object, ...]:
        """Return what nodes share that are the same at every configuration."""
        place = {name: number for number, name in enumerate(names)}
        parts = [node.distribution, *([node.condition] if node.condition else [])]
        return (
            *(id(self.values[name]) for name in names),
            *(id(self.specialiser.placed(part)) for part in parts),
            *(place[name] for part in parts for name in self.specialiser.reads(part)),
        )

    def _scope(self, node: Node) -> tuple[list[str], int]:
        """Return the discrete variables that a node reads, and their configurations."""
        reads = dict.fromkeys(self.specialiser.reads(node.distribution))
        if node.condition is not None:
            reads |= dict.fromkeys(self.specialiser.reads(node.condition))
        names = sorted(reads, key=self.number.__getitem__)
        return names, math.prod(len(self.values[name]) for name in names)

    def _folded(self, folder: Folder, node: Node) -> Node:
        """Return a node that reads parts of its link function as variables."""
        known = len(folder.variables)
        distribution = folder.fold(node.distribution)
        condition = None if node.condition is None else folder.fold(node.condition)
        for variable in folder.variables[known:]:
            self.number[variable.name] = len(self.number)
            self.values[variable.name] = variable.values
        return replace(node, distribution=distribution, condition=condition)

    def _configurations(self, names: Sequence[str]) -> Iterator[Mapping[str, Value]]:
        for values in itertools.product(*(self.values[name] for name in names)):
            yield dict(zip(names, values, strict=True))

    def _everywhere(self, node: Node, names: Sequence[str]) -> list[_Form]:
        """Return a node at every configuration of discrete variables."""
        is_alike = node.is_observed and not self.graph.children(node.name)
        key = self._key(node, names) if is_alike else None
        if key in self._alike_forms:
            return self._alike_forms[key]
        found: list[_Form] = []
        value = self.lowering.values.get(node.name)
        for values in self._configurations(names):
            try:
                found.append(self._form(node, values))
            except TooWideError:
                raise
            except ModelError as error:
                found.append(error)
                continue
            value = self.lowering.values.get(node.name)
        # What reads the node reads it where it has a meaning.
        self.lowering.values[node.name] = value
        errors = [form for form in found if isinstance(form, ModelError)]
        if len(errors) == len(found):
            raise errors[0]
        if is_alike:
            self._alike_forms[key] = found
        return found

    def _form(self, node: Node, values: Mapping[str, Value]) -> Lowered | None:
        """Return a node at a configuration; None where its observe does not count."""
        distribution = self.specialiser.at(node.distribution, values)
        condition = node.condition
        if condition is not None:
            condition = self.specialiser.at(condition, values)
            if isinstance(condition, Constant):
                if is_false(condition.value):
                    return None
                condition = None
        special = replace(node, distribution=distribution, condition=condition)
        key = (id(distribution), id(condition))
        known = self._forms.get(key)
        is_leaf = not self.graph.children(node.name)
        if known is not None and (node.name in self.number or is_leaf):
            # The same link function again: only the value is another one.
            slots = tuple(
                self.dag.variable((node.name, position))
                for position in range(len(known.slots))
            )
            return replace(known, node=special, slots=slots)
        self.num_wide += len(values) > 2
        if self.num_wide > _MOST_FORMS:
            raise too_wide(self.graph, self.num_wide)
        form = self.lowering.node(special, self.graph)
        self._forms[key] = form
        return form

    def _own(self, node: Node, form: _Form) -> tuple[int, ...]:
        """Return the slots of a node's own value."""
        number = len(form.slots) if isinstance(form, Lowered) else 0
        return tuple(self.dag.variable((node.name, place)) for place in range(number))

    def _term(self, form: _Form, value: tuple[int, ...]) -> int:
        """Return the slot of the log density that a form gives to a value."""
        if isinstance(form, Lowered):
            return form.term(self.dag, value)
        return self.dag.constant(0.0 if form is None else math.nan)

    def _encoded(self, form: _Form, value: Value) -> tuple[int, ...]:
        """Return the slot of a discrete value as the density takes it."""
        if not isinstance(form, Lowered):
            return ()
        if not form.categories:
            return (self.dag.constant(float(value)),)
        for position, known in enumerate(form.categories):
            if equal(known, value):
                return (self.dag.constant(float(position)),)
        return (self.dag.constant(-1.0),)

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

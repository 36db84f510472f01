r"""This file makes the tables over discrete latents whose product is a model's density.

Node v contributes its log density given its parents, a table T_v over the discrete
latents among v and its parents. An entry is the node's link function with one
configuration put in (`specialise.py`); it is lowered like any link function, so equal
entries are one slot and all of them run as the batches of one schedule. Entries that
depend on nothing are numbers from the start and stay one number for all rows.

An entry that has no value (a parameter without meaning at this configuration) counts
as impossible where the configuration has mass 0 anyway, and is an error elsewhere.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.expression import Constant, Value, is_false
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import equal

from ..errors import ModelError, Problem
from ..model.dag import Dag
from ..model.lowered import Branch, Lowered, place
from ..model.lowering import Lowering
from ..model.schedule import Schedule
from ..model.values import is_known
from .cuts import LOG_TAIL, cut_of
from .elimination import Elimination, Table
from .specialise import Specialiser

__all__ = ["MOST_ENTRIES", "DiscreteTables", "UnboundedError", "discrete_tables"]

MOST_ENTRIES = 2**20
"""Most entries of a table, and of a joined table, for one row."""


class UnboundedError(ModelError):
    """A latent has infinitely many values, and no cut is known beforehand.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str, problem: Problem) -> None:
        super().__init__(problem)
        self.name = name


@dataclass(frozen=True, eq=False)
class DiscreteTables:
    """A density as tables over the discrete latents.

    Attributes:
        discrete: Names of the discrete latents, in the order of the graph.
        values: Every value that each of them can take.
        truncated: Names of those whose support is infinite, cut off.
        tables: Their scopes and entries.
        elimination: How to sum them out.
        dag: All entries as operations.
        slots: Slots of the entries that depend on latents or data.
        constants: The other entries, [entry, 1].
        lowered: One specialised form of every node that is not discrete.
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
    factors: Sequence[str] | None = None,
    cuts: Mapping[str, int] | None = None,
    widen: int = 1,
) -> DiscreteTables:
    """Return the tables of a graph.

    Args:
        graph: With discrete latents.
        factors: Nodes that contribute; all by default.
        cuts: Largest value kept of latents whose support is infinite and whose
            parameters are not known beforehand.
        widen: Factor on the log of the mass that other cuts leave out.

    Raises:
        UnboundedError: If a support is infinite, its parameters not known, and no cut
            is given.
        ModelError: If a table is too large, or a link function has no meaning.
    """
    return _Builder(graph, cuts or {}, widen).build(
        tuple(node.name for node in graph.nodes) if factors is None else tuple(factors)
    )


class _Builder:
    def __init__(self, graph: Graph, cuts: Mapping[str, int], widen: int) -> None:
        self.log_tail = widen * LOG_TAIL
        self.graph = graph
        self.cuts = cuts
        self.dag = Dag()
        self.lowering = Lowering(self.dag)
        names = [n.name for n in graph.nodes if n.is_discrete and not n.is_observed]
        self.number = {name: place for place, name in enumerate(names)}
        self.specialiser = Specialiser(names)
        self.values: dict[str, tuple[Value, ...]] = {}
        self.truncated: list[str] = []
        self.lowered: dict[str, tuple[Lowered, ...]] = {}
        self._forms: dict[tuple[int, int], Lowered] = {}
        self._depends: dict[int, bool] = {}

    def build(self, factors: Sequence[str]) -> DiscreteTables:
        wanted = frozenset(factors)
        scopes: list[tuple[int, ...]] = []
        entries: list[list[int]] = []
        for node in self.graph.nodes:
            scope, slots = self._table(node)
            if node.name in wanted:
                scopes.append(scope)
                entries.append(slots)
        cardinalities = [len(self.values[name]) for name in self.number]
        is_constant = [not any(map(self._reads_source, slots)) for slots in entries]
        blocks: tuple[dict[int, int], dict[int, int]] = ({}, {})
        tables = []
        for scope, slots, constant in zip(scopes, entries, is_constant, strict=True):
            block = blocks[0 if constant else 1]
            places = [block.setdefault(slot, len(block)) for slot in slots]
            shape = [cardinalities[v] for v in scope]
            tables.append(
                Table(scope, np.array(places).reshape(shape), 0 if constant else 1)
            )
        elimination = Elimination(cardinalities, tables, num_blocks=2)
        if elimination.largest > MOST_ENTRIES:
            raise self._too_wide(elimination.largest)
        return DiscreteTables(
            tuple(self.number),
            dict(self.values),
            tuple(self.truncated),
            tuple(tables),
            elimination,
            self.dag,
            tuple(blocks[1]),
            self._numbers(tuple(blocks[0])),
            dict(self.lowered),
        )

    # -------------------------------------------------------------- one node

    def _table(self, node: Node) -> tuple[tuple[int, ...], list[int]]:
        """Return a node's scope, and the slot of every entry in row-major order."""
        reads = dict.fromkeys(self.specialiser.reads(node.distribution))
        if node.condition is not None:
            reads |= dict.fromkeys(self.specialiser.reads(node.condition))
        names = sorted(reads, key=self.number.__getitem__)
        size = math.prod(len(self.values[name]) for name in names)
        if size > MOST_ENTRIES:
            raise self._too_wide(size)
        forms = [self._form(node, values) for values in self._configurations(names)]
        scope = tuple(self.number[name] for name in names)
        if node.name not in self.number:
            self.lowered[node.name] = tuple(
                {id(form): form for form in forms if form is not None}.values()
            )
            return scope, [self._term(form) for form in forms]
        kept = [form for form in forms if form is not None]
        self.values[node.name] = self._support(node, kept)
        slots = [
            self._term(replace(form, slots=(self._encoded(form, value),)))
            for form in kept
            for value in self.values[node.name]
        ]
        return (*scope, self.number[node.name]), slots

    def _configurations(self, names: Sequence[str]) -> Iterator[Mapping[str, Value]]:
        for values in itertools.product(*(self.values[name] for name in names)):
            yield dict(zip(names, values, strict=True))

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
        form = self.lowering.node(special, self.graph)
        self._forms[key] = form
        return form

    def _term(self, form: Lowered | None) -> int:
        return self.dag.constant(0.0) if form is None else form.term(self.dag)

    # -------------------------------------------------------------- supports

    def _support(self, node: Node, forms: Sequence[Lowered]) -> tuple[Value, ...]:
        """Return every value that a discrete latent can take, at any configuration."""
        numbers: set[int] = set()
        found: list[Value] = []
        for form in forms:
            for branch in form.branches:
                values = self._values_of(node, form, branch)
                if isinstance(values, range):
                    numbers.update(values)
                    continue
                found.extend(v for v in values if not any(equal(v, o) for o in found))
        if not all(map(is_known, found)):
            raise ModelError(
                Problem(
                    place(self.graph, "P", node.name),
                    f"the values of the discrete latent {node.label} are random "
                    "themselves, so that it cannot be summed out",
                    "a categorical over constants, and (get values index)",
                )
            )
        if numbers and all(
            isinstance(v, int) and not isinstance(v, bool) for v in found
        ):
            return tuple(sorted(numbers.union(found)))
        return (*sorted(numbers), *found)

    def _values_of(self, node: Node, form: Lowered, branch: Branch) -> Sequence[Value]:
        family = branch.family
        if family == "flip":
            return (False, True)
        if family == "bernoulli":
            return range(2)
        if family == "discrete":
            return range(branch.shapes[0][0])
        if family == "categorical":
            return form.categories
        if node.name in self.cuts:
            self._note_truncated(node)
            return range(self.cuts[node.name] + 1)
        known = [
            [self.dag.number(slot) for slot in slots]
            if all(map(self.dag.is_constant, slots))
            else None
            for slots in branch.parameters
        ]
        bounds = _bounds(family, known, self.log_tail)
        if bounds is None:
            problem = Problem(
                place(self.graph, "P", node.name),
                f"the values of the discrete latent {node.label} are not finitely many:"
                f" the parameters of {family} depend on continuous latents",
                "bounds that are numbers, or depend on discrete latents",
            )
            if FAMILIES[family].support == "integers from zero":
                raise UnboundedError(node.name, problem)
            raise ModelError(problem)
        low, high, is_cut = bounds
        if is_cut:
            self._note_truncated(node)
        if high - low > MOST_ENTRIES:
            raise self._too_wide(high - low)
        return range(low, high)

    def _note_truncated(self, node: Node) -> None:
        if node.name not in self.truncated:
            self.truncated.append(node.name)

    def _encoded(self, form: Lowered, value: Value) -> int:
        """Return the slot of a discrete value as the density takes it."""
        if not form.categories:
            return self.dag.constant(float(value))
        for position, known in enumerate(form.categories):
            if equal(known, value):
                return self.dag.constant(float(position))
        return self.dag.constant(-1.0)

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

    def _too_wide(self, size: int) -> ModelError:
        return ModelError(
            Problem(
                self.graph.source,
                "the discrete latents depend on each other too widely to be summed out",
                f"tables of at most {MOST_ENTRIES} entries",
                f"{size}",
            )
        )


def _bounds(
    family: str, known: Sequence[Sequence[float] | None], log_tail: float
) -> tuple[int, int, bool] | None:
    """Return the first value, one past the last, and whether that cuts a tail."""
    support = FAMILIES[family].support
    if support == "integer interval" and family == "binomial":
        return None if known[0] is None else (0, int(known[0][0]) + 1, False)
    if support == "integer interval":
        if known[0] is None or known[1] is None:
            return None
        return math.ceil(known[0][0]), math.ceil(known[1][0]), False
    if None in known:
        return None
    parameters = [values[0] for values in known if values is not None]
    return 0, cut_of(family, parameters, log_tail) + 1, True

"""This file gives every node of a graph its table over the discrete latents.

An entry is a slot of the node's log density at one configuration (`forms.py`). Some
tables have none: one of an observed node that reads many discrete latents and nothing
else is computed as a whole (`wide.py`), and those of observed nodes that are alike
together (`alike.py`).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from daphne_bridge.graph.expression import Value
from daphne_bridge.graph.graph import Node

from ..model.dag import Dag
from ..model.lowered import Lowered
from ..model.lowered_graph import LoweredGraph
from .cuts import LOG_TAIL
from .folding import Folded, Folder
from .forms import Form, Forms, Key
from .limits import MOST_ENTRIES, MOST_OF_ONE_ROW, too_wide
from .specialise import Specialiser
from .supports import Supports, code_of
from .wide import WideTable

__all__ = ["NARROW", "Found", "NodeTables"]

_MOST_ENTRIES = 2**18
"""Most entries of the table of a latent, each a slot."""
_MOST_OWN = 2**16
"""Most configurations of one link function, each lowered by itself."""
_MOST_WIDE = 2**14
"""The same of a link function that reads three discrete latents or more."""
_MOST_IN_ALL = 2**26
"""Most entries of all wide tables."""
_UNFOLDED_OWN = 2**10
_UNFOLDED_ENTRIES = 2**14
"""Beyond these, link functions are folded."""
NARROW = 2**6
"""Tables up to this size are not worth folding, or computing as one."""
_PLAIN = frozenset({"flip", "bernoulli", "discrete"})
"""Families whose values do not depend on parameters."""


@dataclass(slots=True)
class Found:
    """What a node's table is over, and the slot of every entry in row-major order.

    None if it has no slots, being wide or of nodes that are alike.
    """

    scope: tuple[int, ...]
    slots: list[int] | None


class NodeTables:
    """The tables of a graph's nodes, so far.

    Attributes:
        whole: The graph as slots, nothing put in.
        dag: Entries as operations.
        latents: Names of the discrete latents that are summed out.
        number: Number of every discrete variable; those that others determine follow.
        values: What each of them can be.
        supports: Of the latents.
        folder: Makes variables that others determine; None if it is not to.
        most: Most entries of a joined table.
        found: The tables.
        wide: Places of the nodes whose tables are wide, by what they read.
        alike: Forms and places of the observed nodes that are alike.
        lowered: The forms of the latents that are not summed out.
    """

    def __init__(
        self,
        whole: LoweredGraph,
        cuts: Mapping[str, int],
        widen: int,
        sampled: Collection[str],
        most_counted: int,
        *,
        folds: bool,
        is_narrow: bool,
    ) -> None:
        """Return the tables of no node yet.

        Args:
            whole: The graph.
            cuts: Largest value kept of some latents.
            widen: Factor on the log of the mass that other cuts leave out.
            sampled: Discrete latents that are not summed out.
            most_counted: Most values of a latent whose cut is given.
            folds: Whether parts of wide link functions become variables.
            is_narrow: Whether to give up where folding might help.
        """
        self.whole = whole
        self.graph = graph = whole.graph
        self.dag = Dag()
        self.supports = Supports(graph, self.dag, cuts, widen * LOG_TAIL, most_counted)
        names = [
            node.name
            for node in graph.nodes
            if node.is_discrete and not node.is_observed and node.name not in sampled
        ]
        self.latents = tuple(names)
        self.number = {name: place for place, name in enumerate(names)}
        specialiser = Specialiser(names)
        self._forms = Forms(graph, self.dag, specialiser, self.number)
        self.values = self._forms.values
        self.folder = Folder(specialiser, self.values) if folds else None
        is_all = len(names) == len(graph.latents)
        self.most = MOST_OF_ONE_ROW if is_all else MOST_ENTRIES
        self.most_read = _UNFOLDED_OWN if is_narrow else _MOST_WIDE
        if is_narrow:
            self.most = self.most_wide = _UNFOLDED_ENTRIES
        else:
            self.most_wide = MOST_OF_ONE_ROW if is_all else _MOST_WIDE
        self.found: list[Found] = []
        self.lowered: dict[str, tuple[Lowered, ...]] = {}
        self._of_alike: dict[Key, tuple[tuple[Value, ...], list[int]]] = {}
        self._one_of_equal: dict[tuple[object, ...], tuple[Value, ...]] = {}
        self.alike: dict[Key, tuple[list[Lowered], list[int]]] = {}
        self.wide: dict[tuple[str, ...], list[int]] = {}
        self._in_wide = 0

    def add(self, node: Node) -> None:
        """Add a node, whose parents were added before."""
        self.found.append(self._table(node))

    def add_folded(self) -> None:
        """Add the variables that others determine."""
        if self.folder is not None:
            self.found += map(self._determined, self.folder.variables)

    def _determined(self, variable: Folded) -> Found:
        """Return the table of a variable that others determine."""
        names = (*variable.scope, variable.name)
        number = len(variable.values)
        never, always = self.dag.constant(-math.inf), self.dag.constant(0.0)
        slots = np.full((len(variable.places), number), never)
        slots[np.arange(len(variable.places)), variable.places] = always
        scope = tuple(self.number[name] for name in names)
        return Found(scope, slots.reshape(-1).tolist())

    # -------------------------------------------------------------- one node

    def _table(self, node: Node) -> Found:
        """Return what a node's table is over, and its entries if they are slots."""
        names, key = self._forms.scope(node)
        size = self._forms.size(names)
        if self.folder is not None and size > NARROW:
            node = self._folded(self.folder, node)
            names, key = self._forms.scope(node)
            size = self._forms.size(names)
        scope = tuple(self.number[name] for name in names)
        is_wide = size > NARROW and self._is_wide(node, names)
        if node.name in self.number:
            self.values[node.name], slots = self._summed_out(
                node, names, key, is_wide=is_wide
            )
            return Found((*scope, self.number[node.name]), slots)
        if is_wide:
            self._in_wide += size
            if size > self.most_wide or self._in_wide > _MOST_IN_ALL:
                raise too_wide(self.graph, size)
            self.wide.setdefault(tuple(names), []).append(len(self.found))
            return Found(scope, None)
        self._check_size(names)
        forms = self._forms.everywhere(node, names, key)
        if not node.is_observed:
            kept = {id(form): form for form in forms if isinstance(form, Lowered)}
            self.lowered[node.name] = tuple(kept.values())
        elif not self.graph.children(node.name):
            if key not in self.alike and (plain := _plain(forms)):
                self.alike[key] = (plain, [])
            if key in self.alike:
                self.alike[key][1].append(len(self.found))
                return Found(scope, None)
        return Found(scope, self.observed(node, forms))

    def _check_size(self, names: Sequence[str]) -> None:
        """Raise if there are too many configurations to look at one by one."""
        size, most = self._forms.size(names), _MOST_OWN
        if len(names) > 2:
            most = self.most_read
        if size > most:
            raise too_wide(self.graph, size)

    def observed(self, node: Node, forms: Sequence[Form]) -> list[int]:
        """Return the slot of what each form says of a node's own value."""
        size = max((len(f.slots) for f in forms if isinstance(f, Lowered)), default=0)
        own = tuple(self.dag.variable((node.name, place)) for place in range(size))
        known: dict[int, int] = {}
        for form in forms:
            if id(form) not in known:
                known[id(form)] = self._term(form, own)
        return [known[id(form)] for form in forms]

    def _summed_out(
        self, node: Node, names: list[str], key: Key, *, is_wide: bool
    ) -> tuple[tuple[Value, ...], list[int]]:
        """Return the values of a latent, and the slot of every entry of its table."""
        if key in self._of_alike:
            return self._of_alike[key]
        if is_wide:
            forms: list[Form] = [self.whole.nodes[node.name]]
        else:
            self._check_size(names)
            forms = self._forms.everywhere(node, names, key)
        known = [form for form in forms if isinstance(form, Lowered)]
        values = self._one_of(self.supports.of(node, known))
        size = self._forms.size(names) * len(values)
        if size > _MOST_ENTRIES:
            raise too_wide(self.graph, size)
        if is_wide:
            slots = self._wide_slots(node.name, names, values)
        else:
            slots = [
                self._term(form, self._encoded(form, value))
                for form in forms
                for value in values
            ]
        # A cut is noted of each latent by its name.
        if node.name not in self.supports.truncated:
            self._of_alike[key] = values, slots
        return values, slots

    def _wide_slots(
        self, name: str, names: list[str], values: tuple[Value, ...]
    ) -> list[int]:
        """Return the entries of a latent's table that is computed as one."""
        every = {**self.values, name: values}
        table = WideTable.of(self.whole, [*names, name], every, [name])
        numbers = table.entries(torch.zeros(0, 1, dtype=torch.float64))[:, 0]
        return [self.dag.constant(number) for number in numbers.tolist()]

    def _one_of(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """Return the one object of equal values of latents."""
        constant = self._forms.specialiser.table.constant
        same = tuple(id(constant(value)) for value in values)
        return self._one_of_equal.setdefault(same, values)

    def _folded(self, folder: Folder, node: Node) -> Node:
        """Return a node that reads parts of its link function as variables."""
        known = len(folder.variables)
        distribution = folder.fold(node.distribution)
        condition = None if node.condition is None else folder.fold(node.condition)
        for variable in folder.variables[known:]:
            self.number[variable.name] = len(self.number)
            self.values[variable.name] = variable.values
        return replace(node, distribution=distribution, condition=condition)

    def _term(self, form: Form, value: tuple[int, ...]) -> int:
        """Return the slot of the log density that a form gives to a value."""
        if isinstance(form, Lowered):
            return form.term(self.dag, value[: len(form.slots)])
        return self.dag.constant(0.0 if form is None else math.nan)

    def _encoded(self, form: Form, value: Value) -> tuple[int, ...]:
        """Return the slot of a discrete value as the density takes it."""
        if not isinstance(form, Lowered):
            return ()
        return (self.dag.constant(code_of(value, form.categories)),)

    def _is_wide(self, node: Node, names: Sequence[str]) -> bool:
        """Whether a node's table can be computed from the whole graph's density."""
        if not {*names}.issuperset(node.parents):
            return False
        if node.is_observed:
            return not self.graph.children(node.name)
        return {branch.family for branch in self.whole.nodes[node.name].branches} <= (
            _PLAIN
        )


def _plain(forms: Sequence[Form]) -> list[Lowered]:
    """Return forms if all are one distribution of the same kind; else none."""
    kept = [
        form
        for form in forms
        if isinstance(form, Lowered)
        and form.index is None
        and form.condition is None
        and not form.categories
        and not form.atoms
    ]
    kinds = {(f.shape, f.branches[0].family, f.branches[0].shapes) for f in kept}
    return kept if len(kept) == len(forms) and len(kinds) == 1 else []

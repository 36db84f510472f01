"""This file owns the checked graphical model: nodes with their links, in order.

A graph is an acyclic directed graph over named nodes. Every node has a distribution
given by a link function of its parents; some nodes are observed. Parents come from the
link functions, never from the document's arcs, because the original compiler loses
arcs; for an observe under `if` the variables of the condition are parents too.

Nodes stand in topological order, parents first; among nodes that are ready the one
that the program made first comes first.
"""

import heapq
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import GraphError, Problem
from ..language.families import FAMILIES, Family
from .canonical import CanonicalForm, canonical_form
from .document import GraphDocument, NodeNames
from .expression import (
    Call,
    Constant,
    EvaluationError,
    Expression,
    ExpressionTable,
    Value,
    evaluate,
    free_names,
    show_value,
)
from .link_functions import ParsedLink, TermReader

__all__ = ["Graph", "Node", "families_of"]


@dataclass(frozen=True, slots=True)
class Node:
    """A random variable.

    Attributes:
        name: Its name in the document, `sample5`.
        label: The program's own name, or `name` where that is not known.
        distribution: The link function: a call of a family, or an `if` or `get` that
            selects among such calls.
        condition: When the observe counts; None if always, and for latents.
        is_observed: Whether its value is data.
        observation: The document's data; None for latents.
        parents: Names of the nodes that its link function reads, in order of first
            mention.
    """

    name: str
    label: str
    distribution: Expression
    condition: Expression | None
    is_observed: bool
    observation: Value
    parents: tuple[str, ...]

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that its distribution may belong to."""
        return families_of(self.distribution)

    @property
    def is_discrete(self) -> bool:
        """Whether any of its families has a mass function."""
        return any(family.is_discrete for family in self.families)


def families_of(distribution: Expression) -> tuple[Family, ...]:
    """Return the families that an expression of a distribution selects among."""
    found: dict[str, Family] = {}
    stack = [distribution]
    while stack:
        current = stack.pop()
        if not isinstance(current, Call):
            continue
        if current.head in FAMILIES:
            found[current.head] = FAMILIES[current.head]
        elif current.head == "if":
            stack.extend(reversed(current.arguments[1:]))
        elif current.arguments and isinstance(current.arguments[0], Call):
            stack.extend(reversed(current.arguments[0].arguments))
    return tuple(found.values())


@dataclass(frozen=True)
class Graph:
    """A graphical model with data.

    Attributes:
        nodes: All nodes, parents first.
        result: What the program returns, as an expression of the nodes; None where the
            document's term cannot be read.
        warnings: What was odd in the document but has a clear meaning.
        source: File name for messages.
        document: What it was made of.
    """

    nodes: tuple[Node, ...]
    result: Expression | None = None
    warnings: tuple[Problem, ...] = ()
    source: str = field(default="<document>", compare=False)
    document: GraphDocument | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_document(
        cls, document: GraphDocument, names: NodeNames | None = None
    ) -> "Graph":
        """Return the graph of a document.

        Args:
            document: Of either compiler.
            names: The program's own names, where known.

        Raises:
            GraphError: With every problem of the document at once: unknown names,
                arities, cycles, observations that are no data, disagreement between
                `V`, `P` and `Y`.
        """
        return _Builder(document, names or NodeNames()).build()

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.parents:
                children[parent].append(node.name)
        return {name: tuple(found) for name, found in children.items()}

    @cached_property
    def latents(self) -> tuple[str, ...]:
        """Names of the latent nodes, parents first."""
        return tuple(node.name for node in self.nodes if not node.is_observed)

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """Names of the observed nodes, in the order of `nodes`."""
        return tuple(node.name for node in self.nodes if node.is_observed)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The program's own name by node name."""
        return {node.name: node.label for node in self.nodes}

    @cached_property
    def canonical(self) -> CanonicalForm:
        """The model's form without names: order of nodes, and digest."""
        return canonical_form(self.nodes)

    @property
    def digest(self) -> str:
        """SHA-256 of the model: names, numbering and data do not enter."""
        return self.canonical.digest

    def node(self, name: str) -> Node:
        """Return a node by its document's name.

        Raises:
            KeyError: If there is none.
        """
        return self._by_name[name]

    def resolve(self, name: str) -> str:
        """Return the document's name for a document's or a program's own name.

        Raises:
            GraphError: If there is no such node, or several.
        """
        if name in self._by_name:
            return name
        found = [node.name for node in self.nodes if node.label == name]
        if len(found) == 1:
            return found[0]
        known = ", ".join(_both_names(node) for node in self.nodes[:12])
        more = ", ..." if len(self.nodes) > 12 else ""
        raise GraphError(
            Problem(
                self.source,
                f"no node is called {name}"
                if not found
                else f"several nodes are called {name}",
                f"one of {known}{more}",
            )
        )

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the parents of a node, in order of first mention."""
        return self._by_name[name].parents

    def children(self, name: str) -> tuple[str, ...]:
        """Return the children of a node, in the order of `nodes`."""
        return self._children[name]

    def markov_blanket(self, name: str) -> tuple[str, ...]:
        """Return parents, children and the children's other parents of a node."""
        blanket = dict.fromkeys(self.parents(name))
        for child in self.children(name):
            blanket[child] = None
            blanket.update(dict.fromkeys(self.parents(child)))
        blanket.pop(name, None)
        return tuple(blanket)


def _both_names(node: Node) -> str:
    return node.name if node.name == node.label else f"{node.name} ({node.label})"


def program_index(name: str, position: int) -> tuple[int, int]:
    """Return a sort key that follows the order in which the program made its nodes.

    Both compilers end a node's name in a running number.
    """
    match = re.search(r"\d+$", name)
    return (int(match.group()) if match else -1, position)


class _Builder:
    """Builds one graph; collects every problem before it gives up."""

    def __init__(self, document: GraphDocument, names: NodeNames) -> None:
        self.document = document
        self.names = names
        self.reader = TermReader(
            document.functions,
            document.vertices,
            ExpressionTable(),
            document.source,
        )
        self.problems = self.reader.problems
        self.warnings = self.reader.warnings

    def build(self) -> Graph:
        document = self.document
        self._compare_keys()
        nodes: dict[str, Node] = {}
        for name in sorted(
            document.vertices,
            key={
                name: program_index(name, position)
                for position, name in enumerate(document.vertices)
            }.__getitem__,
        ):
            if name in document.link_functions:
                node = self._node(name)
                if node is not None:
                    nodes[name] = node
        if not self.problems:
            self._drop_never(nodes)
        order = self._order(nodes) if not self.problems else ()
        if self.problems:
            raise GraphError(*self.problems)
        self._compare_arcs(nodes)
        mark = len(self.problems)
        self.reader.takes_keywords = True
        result = self.reader.read(document.result, 2)
        del self.problems[mark:]
        return Graph(
            nodes=tuple(nodes[name] for name in order),
            result=result,
            warnings=tuple(self.warnings),
            source=document.source,
            document=document,
        )

    def _where(self, *path: str | int) -> str:
        return self.reader.where(*path)

    def _compare_keys(self) -> None:
        document = self.document
        vertices = set(document.vertices)
        for name in document.vertices:
            if name not in document.link_functions:
                self.problems.append(
                    Problem(self._where(1, "V"), f"{name} has no link function in P")
                )
        for part, entries in (
            ("P", document.link_functions),
            ("Y", document.observations),
        ):
            for name in entries:
                if name not in vertices:
                    self.problems.append(
                        Problem(self._where(1, part, name), f"{name} is no node of V")
                    )

    def _node(self, name: str) -> Node | None:
        """Return a node, a node without distribution for "never", or None."""
        document = self.document
        path = (1, "P", name)
        link = self.reader.link(name, document.link_functions[name])
        if link is None:
            return None
        is_observed = name in document.observations
        if link.kind == "sample*" and is_observed:
            self._problem(1, "Y", name, what="a sampled node has an observation")
            return None
        if link.kind == "observe*" and not is_observed:
            self._problem(*path, what="an observed node has no observation in Y")
            return None
        if link.kind == "never" or link.distribution is None:
            self.warnings.append(
                Problem(
                    self._where(*path), f"the observe {name} never happens; left out"
                )
            )
            return Node(
                name=name,
                label=name,
                distribution=Constant(None),
                condition=None,
                is_observed=True,
                observation=None,
                parents=(),
            )
        observation = self._observation(name, link) if is_observed else None
        roots = [link.distribution]
        if link.condition is not None:
            roots.append(link.condition)
        return Node(
            name=name,
            label=self.names.labels.get(name, name),
            distribution=link.distribution,
            condition=link.condition,
            is_observed=is_observed,
            observation=observation,
            parents=free_names(*roots),
        )

    def _problem(
        self, *path: str | int, what: str, expected: str = "", got: str = ""
    ) -> None:
        self.problems.append(Problem(self._where(*path), what, expected, got))

    def _observation(self, name: str, link: ParsedLink) -> Value:
        """Return the data of an observe; `P` and `Y` must agree."""
        written = self.reader.read_observation(name, self.document.observations[name])
        values = []
        for expression, path in (
            (link.value, (1, "P", name)),
            (written, (1, "Y", name)),
        ):
            if expression is None:
                return None
            names = free_names(expression)
            if names:
                self._problem(
                    *path,
                    what=f"the observation depends on {', '.join(names[:3])}",
                    expected="data",
                )
                return None
            try:
                values.append(evaluate(expression, {}))
            except EvaluationError as error:
                self._problem(*path, what=f"the observation has no value: {error}")
                return None
        in_link, in_table = values
        if not _same_value(in_link, in_table):
            self._problem(
                1,
                "Y",
                name,
                what="the observation differs from the one in P",
                expected=show_value(in_link)[:60],
                got=show_value(in_table)[:60],
            )
        return in_link

    def _drop_never(self, nodes: dict[str, Node]) -> None:
        for name in [n for n, node in nodes.items() if not node.families]:
            del nodes[name]

    def _order(self, nodes: Mapping[str, Node]) -> Sequence[str]:
        """Return names parents first, ties by the order of `nodes`."""
        rank = {name: position for position, name in enumerate(nodes)}
        children: dict[str, list[str]] = {name: [] for name in nodes}
        missing: dict[str, int] = {}
        for node in nodes.values():
            known = [parent for parent in node.parents if parent in nodes]
            if len(known) < len(node.parents):
                lost = next(p for p in node.parents if p not in nodes)
                self._problem(
                    1,
                    "P",
                    node.name,
                    what=f"{node.name} reads {lost}, which never happens",
                )
            missing[node.name] = len(known)
            for parent in known:
                children[parent].append(node.name)
        ready = [rank[name] for name, count in missing.items() if count == 0]
        heapq.heapify(ready)
        names = list(nodes)
        order: list[str] = []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(name)
            for child in children[name]:
                missing[child] -= 1
                if missing[child] == 0:
                    heapq.heappush(ready, rank[child])
        if len(order) < len(nodes):
            cycle = _find_cycle({n: nodes[n].parents for n in set(nodes) - set(order)})
            self._problem(
                1,
                "P",
                cycle[0],
                what="the link functions form a cycle: " + " -> ".join(cycle),
                expected="an acyclic graph",
            )
        return order

    def _compare_arcs(self, nodes: Mapping[str, Node]) -> None:
        """Warn where `A` and the link functions disagree."""
        arcs = self.document.arcs
        vertices = set(self.document.vertices)
        written = {
            (parent, child)
            for parent, kids in arcs.items()
            if parent in vertices
            for child in kids
        }
        needed = {
            (parent, node.name) for node in nodes.values() for parent in node.parents
        }
        for pairs, what in (
            (sorted(needed - written), "lacks arcs that link functions need"),
            (sorted(written - needed), "has arcs that no link function uses"),
        ):
            if pairs:
                shown = ", ".join(f"{a} -> {b}" for a, b in pairs[:4])
                more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
                self.warnings.append(
                    Problem(self._where(1, "A"), f"{what}: {shown}{more}")
                )
        strange = sorted(set(arcs) - vertices)
        if strange:
            self.warnings.append(
                Problem(
                    self._where(1, "A"),
                    f"keys that are no nodes are ignored: {', '.join(strange[:6])}",
                )
            )


def _same_value(left: Value, right: Value) -> bool:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return {str(k): v for k, v in left.items()} == {
            str(k): v for k, v in right.items()
        }
    if isinstance(left, int | float) and isinstance(right, int | float):
        return (left is right) or (
            isinstance(left, bool) == isinstance(right, bool)
            and abs(left - right) <= 1e-12 * max(abs(left), abs(right))
        )
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(
            _same_value(a, b) for a, b in zip(left, right, strict=True)
        )
    try:
        return bool(left == right) or float(left) == float(right)
    except (TypeError, ValueError):
        return False


def _find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes of a cycle, first one repeated at the end."""
    current = min(parents)
    trail: deque[str] = deque()
    seen: set[str] = set()
    while current not in seen:
        seen.add(current)
        trail.append(current)
        current = next(p for p in parents[current] if p in parents)
    cycle = list(trail)[list(trail).index(current) :]
    return [current, *reversed(cycle[1:]), current]

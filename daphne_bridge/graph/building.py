"""This file builds the nodes of a graph from a document, and finds what is wrong in it.

Parents come from the link functions, never from the document's arcs, because the
original compiler loses arcs; for an observe under `if` the variables of the condition
are parents too. An observe that can never happen is left out.
"""

import re
from collections.abc import Mapping

from ..errors import GraphError, Problem
from .document import GraphDocument, NodeNames
from .expression import (
    EvaluationError,
    Expression,
    Value,
    evaluate,
    free_names,
    show_value,
)
from .json_paths import Path, linked
from .link_functions import ParsedLink, read_link, read_observation, term_reader
from .nodes import Node
from .order import find_cycle, parents_first

__all__ = ["build"]


def build(
    document: GraphDocument, names: NodeNames
) -> tuple[tuple[Node, ...], Expression | None, tuple[Problem, ...]]:
    """Return the nodes of a document, parents first, what it returns, and warnings.

    Raises:
        GraphError: With every problem of the document at once.
    """
    builder = _Builder(document, names)
    builder.compare_keys()
    nodes = builder.nodes()
    builder.give_up_on_problems()
    order = builder.order(nodes)
    builder.give_up_on_problems()
    builder.compare_arcs(nodes)
    result = builder.reader.read(document.result, linked(2), takes_keywords=True)
    return order, result, tuple(builder.warnings)


def _program_index(name: str) -> int:
    """Return a sort key that follows the order in which the program made its nodes.

    Both compilers end a node's name in a running number.
    """
    match = re.search(r"\d+$", name)
    return int(match.group()) if match else -1


class _Builder:
    """Builds the nodes of one document; collects problems and warnings."""

    def __init__(self, document: GraphDocument, names: NodeNames) -> None:
        self.document = document
        self.names = names
        self.reader = term_reader(document)
        self.warnings: list[Problem] = []

    def give_up_on_problems(self) -> None:
        if self.reader.problems:
            raise GraphError(*self.reader.problems)

    def _warn(self, path: Path, what: str) -> None:
        self.warnings.append(Problem(self.reader.where(path), what))

    def compare_keys(self) -> None:
        """Note where `V`, `P` and `Y` disagree about the names of nodes."""
        document = self.document
        vertices = set(document.vertices)
        for name in document.vertices:
            if name not in document.link_functions:
                self.reader.note(linked(1, "V"), f"{name} has no link function in P")
        for part, entries in (
            ("P", document.link_functions),
            ("Y", document.observations),
        ):
            for name in entries:
                if name not in vertices:
                    self.reader.note(linked(1, part, name), f"{name} is no node of V")

    def nodes(self) -> dict[str, Node]:
        """Return the nodes that can happen, in the program's order."""
        document = self.document
        nodes = {}
        for name in sorted(document.vertices, key=_program_index):
            if name in document.link_functions:
                node = self._node(name)
                if node is not None:
                    nodes[name] = node
        return nodes

    def _node(self, name: str) -> Node | None:
        """Return a node, or None after noting a problem or a warning."""
        path = linked(1, "P", name)
        link = read_link(self.reader, name, self.document.link_functions[name])
        if link is None:
            return None
        is_observed = name in self.document.observations
        if link.kind == "sample*" and is_observed:
            place = linked(1, "Y", name)
            self.reader.note(place, "a sampled node has an observation")
            return None
        if link.kind == "observe*" and not is_observed:
            self.reader.note(path, "an observed node has no observation in Y")
            return None
        if link.distribution is None:
            self._warn(path, f"the observe {name} never happens; left out")
            return None
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

    def _observation(self, name: str, link: ParsedLink) -> Value:
        """Return the data of an observe; `P` and `Y` must agree."""
        written = read_observation(self.reader, name, self.document.observations[name])
        values = []
        for expression, part in ((link.value, "P"), (written, "Y")):
            if expression is None:
                return None
            path = linked(1, part, name)
            names = free_names(expression)
            if names:
                what = f"the observation depends on {', '.join(names[:3])}"
                self.reader.note(path, what, "data")
                return None
            try:
                values.append(evaluate(expression, {}))
            except EvaluationError as error:
                self.reader.note(path, f"the observation has no value: {error}")
                return None
        in_link, in_table = values
        if not _same_value(in_link, in_table):
            self.reader.note(
                linked(1, "Y", name),
                "the observation differs from the one in P",
                show_value(in_link)[:60],
                show_value(in_table)[:60],
            )
        return in_link

    def order(self, nodes: Mapping[str, Node]) -> tuple[Node, ...]:
        """Return the nodes parents first, ties by their order."""
        for node in nodes.values():
            lost = next((p for p in node.parents if p not in nodes), None)
            if lost is not None:
                self.reader.note(
                    linked(1, "P", node.name),
                    f"{node.name} reads {lost}, which never happens",
                )
        place = {name: i for i, name in enumerate(nodes)}
        each = list(nodes.values())
        order = parents_first(
            [[place[p] for p in node.parents if p in place] for node in each]
        )
        if len(order) < len(each):
            stuck = set(nodes) - {each[i].name for i in order}
            cycle = find_cycle({name: nodes[name].parents for name in stuck})
            self.reader.note(
                linked(1, "P", cycle[0]),
                "the link functions form a cycle: " + " -> ".join(cycle),
                "an acyclic graph",
            )
        return tuple(each[i] for i in order)

    def compare_arcs(self, nodes: Mapping[str, Node]) -> None:
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
                self._warn(linked(1, "A"), f"{what}: {shown}{more}")
        strange = sorted(set(arcs) - vertices)
        if strange:
            what = f"keys that are no nodes are ignored: {', '.join(strange[:6])}"
            self._warn(linked(1, "A"), what)


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

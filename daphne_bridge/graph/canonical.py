"""This file gives a model a digest and an order of nodes that no renaming changes.

Two documents describe the same model if some renaming of nodes turns the link
functions of one into those of the other; names, running numbers, observed values and
the order of writing do not matter. The canonical order is found by colour refinement:
nodes start coloured by the shape of their link function, and a colour is split while
its nodes differ in how many neighbours of some colour they have in which argument
position. Where symmetry leaves several nodes of one colour, the first of them is set
apart and refinement goes on. The digest is the SHA-256 of the link functions with
parents written as positions in that order.

Equal digests mean equal models. Equal models have equal digests wherever symmetric
nodes are interchangeable, as they are in anything a program makes by repetition;
regular graphs built to defeat colour refinement may differ.

Reference: McKay, Piperno, "Practical graph isomorphism, II" (2014), section 2.
"""

import hashlib
import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from .expression import Constant, Reference, Value, postorder, show_value
from .nodes import Node
from .order import parents_first

__all__ = ["CanonicalForm", "canonical_form"]


@dataclass(frozen=True)
class CanonicalForm:
    """A model without names.

    Attributes:
        order: The document's names in canonical order, parents first.
        shapes: Digest of each node's own link function, its parents written as
            argument positions; in the order of `order`.
        digest: `sha256:...` of the whole model.
    """

    order: tuple[str, ...]
    shapes: tuple[str, ...]
    digest: str

    @cached_property
    def _shape_of(self) -> Mapping[str, str]:
        return dict(zip(self.order, self.shapes, strict=True))

    def shape(self, name: str) -> str:
        """Return the digest of one node's own link function."""
        return self._shape_of[name]


def canonical_form(nodes: Sequence[Node]) -> CanonicalForm:
    """Return the canonical form of nodes that are given in topological order."""
    index = {node.name: position for position, node in enumerate(nodes)}
    parents = [[index[parent] for parent in node.parents] for node in nodes]
    shapes = [_shape(node) for node in nodes]
    colours = _Partition(parents, shapes).discrete_colours()
    order = parents_first(parents, colours)
    rank = {node: position for position, node in enumerate(order)}
    digest = hashlib.sha256()
    for node in order:
        links = " ".join(str(rank[parent]) for parent in parents[node])
        digest.update(f"{shapes[node]} {links}\n".encode())
    return CanonicalForm(
        order=tuple(nodes[node].name for node in order),
        shapes=tuple(shapes[node] for node in order),
        digest=f"sha256:{digest.hexdigest()}",
    )


def _shape(node: Node) -> str:
    """Return a digest of a link function, parents by position of first mention."""
    position = {name: str(place) for place, name in enumerate(node.parents)}
    digests: dict[int, bytes] = {}
    roots = [node.distribution]
    if node.condition is not None:
        roots.append(node.condition)
    for expression in postorder(roots):
        if isinstance(expression, Constant):
            parts = [b"constant", _constant_text(expression.value).encode()]
        elif isinstance(expression, Reference):
            parts = [b"parent", position[expression.name].encode()]
        else:
            parts = [b"call", expression.head.encode()]
            parts += [digests[id(argument)] for argument in expression.arguments]
        digests[id(expression)] = hashlib.blake2b(
            b"\0".join(parts), digest_size=16
        ).digest()
    kind = b"observed" if node.is_observed else b"latent"
    whole = b"\0".join([kind, *(digests[id(root)] for root in roots)])
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _constant_text(value: Value) -> str:
    """Return a constant as text; 1 and 1.0 are the same number."""
    if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        as_float = float(value)
        return repr(as_float) if as_float == value or value != value else repr(value)
    return show_value(value)


class _Partition:
    """Nodes in cells that refinement cannot tell apart.

    Cell numbers depend on the structure only, never on names: new cells are numbered
    in the order of their signatures.
    """

    def __init__(self, parents: Sequence[Sequence[int]], shapes: Sequence[str]) -> None:
        self.parents = parents
        self.children: list[list[tuple[int, int]]] = [[] for _ in parents]
        for child, found in enumerate(parents):
            for slot, parent in enumerate(found):
                self.children[parent].append((child, slot))
        self.colour = [0] * len(parents)
        self.cells: list[set[int]] = []
        groups: dict[str, set[int]] = defaultdict(set)
        for node, shape in enumerate(shapes):
            groups[shape].add(node)
        for shape in sorted(groups):
            self._add(groups[shape])

    def discrete_colours(self) -> list[int]:
        """Return colours, a different one for every node."""
        self._refine(range(len(self.cells)))
        waiting = list(range(len(self.cells)))
        while waiting:
            number = heapq.heappop(waiting)
            if len(self.cells[number]) < 2:
                continue
            known = len(self.cells)
            self._refine([self._add({self.cells[number].pop()})])
            for other in (number, *range(known, len(self.cells))):
                heapq.heappush(waiting, other)
        return self.colour

    def _add(self, members: set[int]) -> int:
        number = len(self.cells)
        self.cells.append(members)
        for node in members:
            self.colour[node] = number
        return number

    def _refine(self, splitters: Iterable[int]) -> None:
        """Split cells until all nodes of each cell see the same colours."""
        queue = deque(splitters)
        while queue:
            seen = self._seen_from(self.cells[queue.popleft()])
            touched: dict[int, dict[tuple[int, ...], set[int]]] = {}
            for node, marks in seen.items():
                signature = tuple(sorted(marks))
                groups = touched.setdefault(self.colour[node], {})
                groups.setdefault(signature, set()).add(node)
            for number in sorted(touched):
                queue.extend(self._split(number, touched[number]))

    def _seen_from(self, cell: Iterable[int]) -> dict[int, list[int]]:
        """Return, per neighbour of the cell, the relations it has to members."""
        seen: dict[int, list[int]] = {}
        for member in tuple(cell):
            for child, slot in self.children[member]:
                if len(self.cells[self.colour[child]]) > 1:
                    seen.setdefault(child, []).append(slot)
            for slot, parent in enumerate(self.parents[member]):
                if len(self.cells[self.colour[parent]]) > 1:
                    seen.setdefault(parent, []).append(-1 - slot)
        return seen

    def _split(
        self, number: int, groups: Mapping[tuple[int, ...], set[int]]
    ) -> list[int]:
        """Split one cell by signature; return the new cells' numbers."""
        cell = self.cells[number]
        parts = dict(groups)
        rest = len(cell) - sum(map(len, groups.values()))
        if rest == 0 and len(parts) == 1:
            return []
        if rest:
            largest = min((-rest, ()), *((-len(m), s) for s, m in parts.items()))[1]
            if largest != ():
                moved = cell.difference(*parts.values())
                parts[()] = moved
        else:
            largest = min((-len(m), s) for s, m in parts.items())[1]
        new = []
        for signature in sorted(parts):
            if signature != largest:
                cell.difference_update(parts[signature])
                new.append(self._add(set(parts[signature])))
        return new

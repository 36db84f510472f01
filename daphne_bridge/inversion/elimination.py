r"""This file eliminates latent variables from a moral graph, sets of nodes as bit sets.

Nodes are numbers, latents first; a set of nodes is an int whose bit i says whether node
i is in it. Eliminating v joins the neighbours of v with one another and removes v. The
filled graph is never written down. It is kept as a quotient graph,

    N(v) = (remaining moral neighbours of v) ∪ ⋃ {B(e) : v touches element e} \ {v},

where an element e is a connected set of eliminated nodes and B(e), a clique, is the set
of remaining nodes around it. Eliminating v merges the elements that v touches into one
with B = N(v). So a chain of a thousand states, whose inverse has half a million edges,
costs a few set operations per state.

The number of fill edges of v is the number of pairs of N(v) that are not adjacent.
With C the largest B(e) that contains v and R = N(v) \ C, all of these pairs touch R:

    fill(v) = Σ_{r ∈ R} |C \ N(r)| + ½ Σ_{r ∈ R} |R \ N(r) \ {r}|.

References:
    George, Liu (1989), The evolution of the minimum degree ordering algorithm, SIAM
    Review 31(1), for the quotient graph. Koller, Friedman (2009), Probabilistic
    Graphical Models, 9.4, for elimination and min-fill.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import compress

__all__ = ["Elimination", "as_set", "markov_boundary", "members", "moral_neighbours"]

_SPARSE = 16
"""Sets of up to this many members are listed bit by bit, larger ones by digits."""

_FEW = 8_192
"""Up to this many nodes the set of each single node is kept at hand."""

_DIGITS = bytes.maketrans(b"01", b"\0\1")


def as_set(nodes: Sequence[int]) -> int:
    """Return the bit set of some nodes."""
    found = 0
    for node in nodes:
        found |= 1 << node
    return found


def members(nodes: int) -> list[int]:
    """Return the members of a bit set, ascending."""
    if nodes.bit_count() <= _SPARSE:
        found = []
        while nodes:
            low = nodes & -nodes
            found.append(low.bit_length() - 1)
            nodes ^= low
        return found
    digits = f"{nodes:b}".encode().translate(_DIGITS)[::-1]
    return list(compress(range(len(digits)), digits))


def moral_neighbours(parents: Sequence[Sequence[int]], kept: int) -> list[int]:
    """Return each node's neighbours in the moral graph of the `kept` nodes.

    Args:
        parents: Parents of each node.
        kept: A set of nodes that contains the parents of its members.
    """
    around = [0] * len(parents)
    for node in members(kept):
        family = as_set(parents[node]) | 1 << node
        around[node] |= family
        for parent in parents[node]:
            around[parent] |= family
    return [near & ~(1 << node) for node, near in enumerate(around)]


class Elimination:
    """A moral graph while its latents are being eliminated.

    Attributes:
        remaining: The nodes that are not eliminated.
        work: Set operations so far, each weighted with the length of the sets.
    """

    def __init__(self, moral: Sequence[int], remaining: int) -> None:
        self.remaining = remaining
        self.work = 0
        self._moral = moral
        self._near = list(moral)
        self._outdated = 0
        self._joined: list[int] = []
        self._read = [0] * len(moral)
        self._boundary: dict[int, int] = {}
        self._merged_into: dict[int, int] = {}
        self._touches: dict[int, set[int]] = {}
        self._weight = 1 + len(moral) // 2048
        self._single: Callable[[int], int] = (1).__lshift__
        if len(moral) <= _FEW:
            self._single = [1 << node for node in range(len(moral))].__getitem__

    def neighbours(self, node: int) -> int:
        """Return the nodes that are adjacent to `node` in the filled graph."""
        if self._outdated >> node & 1:
            self._refresh(1 << node)
        return self._near[node]

    def fill(self, node: int) -> int:
        """Return how many edges the elimination of `node` would add."""
        near = self.neighbours(node)
        rest = near & ~self._largest_clique(node)
        self._refresh(rest)
        around, single = self._near, self._single
        others = members(rest)
        left = near
        adjacent = 0
        for other in others:
            left ^= single(other)
            adjacent += (left & around[other]).bit_count()
        self.work += (1 + len(others)) * self._weight
        return len(others) * (near.bit_count() + left.bit_count() - 1) // 2 - adjacent

    def joined_around(self, node: int, watched: int) -> int:
        """Return the `watched` nodes outside N(node) whose fill its elimination lowers.

        These are the common neighbours of two nodes that become adjacent.
        """
        near = self.neighbours(node)
        rest = near & ~self._largest_clique(node)
        outside = watched & ~near & ~(1 << node)
        self._refresh(rest | outside)
        ends = sorted(
            members(rest),
            key=lambda other: ((self._near[other] & outside).bit_count(), other),
        )
        found = 0
        for other in ends:
            near ^= 1 << other
            missing = near & ~self._near[other]
            if not missing:
                continue
            thirds = members(self._near[other] & outside & ~found)
            for third in thirds:
                if self._near[third] & missing:
                    found |= 1 << third
            self.work += len(thirds) * self._weight
        self.work += 2 * len(ends) * self._weight
        return found

    def eliminate(self, node: int) -> int:
        """Remove `node`, join its neighbours, and return them."""
        near = self.neighbours(node)
        known = 0
        for element in self._elements(node):
            known |= self._boundary.pop(element)
            self._merged_into[element] = node
        for other in members(near & ~known):
            self._touches.setdefault(other, set()).add(node)
        self._touches.pop(node, None)
        self._boundary[node] = near
        self._outdated |= near
        self._joined.append(near)
        self.remaining &= ~(1 << node)
        return near

    def _elements(self, node: int) -> set[int]:
        """Return the elements around `node`, after all mergers."""
        touched = self._touches.get(node)
        if not touched:
            return set()
        if any(element in self._merged_into for element in touched):
            touched = {self._whole(element) for element in touched}
            self._touches[node] = touched
        return touched

    def _whole(self, element: int) -> int:
        """Return the element that `element` has become part of."""
        whole = element
        while whole in self._merged_into:
            whole = self._merged_into[whole]
        while element != whole:
            self._merged_into[element], element = whole, self._merged_into[element]
        return whole

    def _largest_clique(self, node: int) -> int:
        """Return the largest boundary of an element around `node`, empty if none."""
        clique = 0
        for element in self._elements(node):
            boundary = self._boundary[element]
            if boundary.bit_count() > clique.bit_count():
                clique = boundary
        return clique

    def _refresh(self, nodes: int) -> None:
        """Bring the neighbours of `nodes` up to date.

        Either by what was joined since they were read, or from their elements.
        """
        outdated = nodes & self._outdated
        if not outdated:
            return
        self._outdated ^= outdated
        now = len(self._joined)
        for node in members(outdated):
            unread = self._joined[self._read[node] :]
            if len(unread) <= len(self._touches[node]):
                near = self._near[node]
                for joined in unread:
                    if joined >> node & 1:
                        near |= joined
                self.work += len(unread) * self._weight
            else:
                near = self._moral[node]
                elements = self._elements(node)
                for element in elements:
                    near |= self._boundary[element]
                self.work += (1 + len(elements)) * self._weight
            self._near[node] = near & self.remaining & ~(1 << node)
            self._read[node] = now


def markov_boundary(
    parents: Sequence[Sequence[int]], latents: int, order: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield for each node of an elimination order its parents, and the work it took.

    The parents of v are the smallest set of nodes that separates v from all other
    nodes that remain: the remaining nodes that v reaches through eliminated ones in
    the moral graph of v, the remaining nodes and all their ancestors. Elimination
    computes the same unless an eliminated latent without remaining descendants has
    married its parents: such a node is no longer in that graph.

    Args:
        parents: Parents of each node.
        latents: The nodes that are eliminated.
        order: All latents, first eliminated first.
    """
    children: list[list[int]] = [[] for _ in parents]
    for node, above in enumerate(parents):
        for parent in above:
            children[parent].append(node)
    family = [as_set(above) | 1 << node for node, above in enumerate(parents)]
    last_use = _last_uses(children, latents, order)
    eliminated = 0
    for step, node in enumerate(order):
        seen = 1 << node
        reached = 0
        pending = [node]
        work = 0
        while pending:
            current = pending.pop()
            near = family[current]
            for child in children[current]:
                if last_use[child] >= step:
                    near |= family[child]
            work += 1 + len(children[current])
            fresh = near & ~seen
            seen |= fresh
            reached |= fresh & ~eliminated
            pending.extend(members(fresh & eliminated))
        eliminated |= 1 << node
        yield reached, work


def _last_uses(
    children: Sequence[Sequence[int]], latents: int, order: Sequence[int]
) -> list[int]:
    """Return for each node the last step at which it or a descendant remains."""
    never = len(order)
    last_use = [never] * len(children)
    for step, node in enumerate(order):
        last_use[node] = step
    pending = [len(below) for below in children]
    parents: list[list[int]] = [[] for _ in children]
    for node, below in enumerate(children):
        for child in below:
            parents[child].append(node)
    ready = [node for node, count in enumerate(pending) if not count]
    while ready:
        node = ready.pop()
        if not latents >> node & 1:
            last_use[node] = never
        for parent in parents[node]:
            last_use[parent] = max(last_use[parent], last_use[node])
            pending[parent] -= 1
            if not pending[parent]:
                ready.append(parent)
    return last_use

"""This file turns a graph into its minimal faithful inverse.

The inverse H of a graph G over latents z and observed x is a directed acyclic graph
whose edges end in latents only, so that

    q(z | x) = Π_i q(z_i | parents of z_i in H),   latents in sampling order.

H is faithful if every conditional independence that this product claims holds in G by
d-separation, and minimal if no edge can go without a false claim. A sampling order
fixes H: the parents of z_i are the smallest set among the earlier latents and x that
d-separates z_i from the others. `elimination_search` finds an order with few edges.

References:
    Webb et al. (2018), Faithful Inversion of Generative Models for Effective Amortized
    Inference, NeurIPS. Stuhlmüller, Taylor, Goodman (2013), Learning stochastic
    inverses, NeurIPS.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import InversionError, Problem
from ..graph.graph import Graph
from .elimination import as_set, members
from .elimination_plans import Dag, Mode, Plan
from .elimination_search import DEFAULT_WORK, Candidate, search

__all__ = ["Inverse", "ParentSets", "invert", "invert_dag"]


class ParentSets(Mapping[str, tuple[str, ...]]):
    """Parents by latent, stored as bit sets and listed when asked for.

    Attributes:
        latents: Keys, in sampling order.
        observed: The other nodes that can be parents, in program order.
        sets: One int per latent: bit i stands for the i-th of latents + observed.
    """

    __slots__ = ("_place", "latents", "observed", "sets")

    def __init__(
        self, latents: Sequence[str], observed: Sequence[str], sets: Sequence[int]
    ) -> None:
        self.latents = tuple(latents)
        self.observed = tuple(observed)
        self.sets = tuple(sets)
        self._place = {name: place for place, name in enumerate(self.latents)}

    def __getitem__(self, latent: str) -> tuple[str, ...]:
        """Return the parents of a latent: latents as sampled, then observed."""
        return self.names(self.sets[self._place[latent]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.latents)

    def __len__(self) -> int:
        return len(self.latents)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ParentSets):
            return self._identity() == other._identity()
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        count = sum(nodes.bit_count() for nodes in self.sets)
        return f"ParentSets({len(self.latents)} latents, {count} edges)"

    def names(self, nodes: int) -> tuple[str, ...]:
        """Return the names of a bit set, latents as sampled, then observed."""
        return self.names_at(members(nodes))

    def names_at(self, places: Sequence[int]) -> tuple[str, ...]:
        """Return the names at places in latents + observed."""
        count = len(self.latents)
        return tuple(
            self.latents[place] if place < count else self.observed[place - count]
            for place in places
        )

    def place(self, latent: str) -> int:
        """Return where a latent stands in the sampling order.

        Raises:
            KeyError: If there is no such latent.
        """
        return self._place[latent]

    def _identity(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
        return self.latents, self.observed, self.sets


@dataclass(frozen=True)
class Inverse:
    """A minimal faithful inverse.

    Attributes:
        parents: By latent, its parents: earlier latents as sampled, then observed.
        candidate: Which candidate it is.
        candidates: Every candidate that was tried, and how many edges it gave.
        digest: Digest of the model that was inverted; empty for a bare graph.
        labels: The program's own name by document name, where it is another one.
    """

    parents: ParentSets
    candidate: Candidate
    candidates: tuple[Candidate, ...]
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents in sampling order, parents first."""
        return self.parents.latents

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the observed nodes, in program order."""
        return self.parents.observed

    @property
    def mode(self) -> Mode:
        """The mode that gave the fewest edges."""
        return self.candidate.plan.mode

    @cached_property
    def num_edges(self) -> int:
        """Number of edges."""
        return sum(nodes.bit_count() for nodes in self.parents.sets)

    def ancestors(self, latent: str) -> tuple[str, ...]:
        """Return all that a sampled latent depends on: ancestors, latents first.

        Raises:
            KeyError: If there is no such latent.
        """
        return self.parents.names(self.reach[self.parents.place(latent)])

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """Ancestors of each latent as bit sets over latents + observed."""
        latents = (1 << len(self.latents)) - 1
        found: list[int] = []
        for nodes in self.parents.sets:
            ancestors = nodes
            pending = nodes & latents
            while pending:
                nearest = pending.bit_length() - 1
                ancestors |= found[nearest]
                pending &= ~(found[nearest] | 1 << nearest)
            found.append(ancestors)
        return tuple(found)


def invert(
    graph: Graph,
    *,
    plans: Sequence[Plan] = (),
    work: int = DEFAULT_WORK,
    summed_out: Collection[str] = (),
) -> Inverse:
    """Return the minimal faithful inverse of a graph.

    Names do not matter: a renaming that keeps the order of the nodes commutes with
    inversion.

    Args:
        graph: The model.
        plans: What to try; by default every mode with every rule. With one plan the
            result is that plan's inverse, `PUBLISHED` for the algorithm as published.
        work: Set operations to spend on candidates; see `elimination_search`.
        summed_out: Latents that are eliminated before all others. They come last in
            sampling order; what stands before them is a faithful inverse of the model
            with these latents summed out.
    """
    return invert_dag(
        [node.name for node in graph.nodes],
        {node.name: node.parents for node in graph.nodes},
        graph.observed,
        digest=graph.digest,
        labels={n.name: n.label for n in graph.nodes if n.label != n.name},
        plans=plans,
        work=work,
        summed_out=summed_out,
    )


def invert_dag(
    names: Sequence[str],
    parents: Mapping[str, Sequence[str]],
    observed: Collection[str],
    *,
    digest: str = "",
    labels: Mapping[str, str] | None = None,
    plans: Sequence[Plan] = (),
    work: int = DEFAULT_WORK,
    summed_out: Collection[str] = (),
) -> Inverse:
    """Return the minimal faithful inverse of a directed acyclic graph.

    Args:
        names: All nodes in program order, which breaks ties.
        parents: Parents of each node; a node without an entry has none.
        observed: Which nodes are observed.
        digest: Identifies the model in the inverse.
        labels: The program's own names, where they differ.
        plans: What to try; by default every mode with every rule.
        work: Set operations to spend on candidates.
        summed_out: Latents that are eliminated before all others.

    Raises:
        InversionError: If a name stands twice or is unknown, or there is a cycle.
    """
    given = frozenset(observed)
    latent_names = [name for name in names if name not in given]
    observed_names = [name for name in names if name in given]
    number = {name: i for i, name in enumerate(latent_names + observed_names)}
    _check_names(names, parents, given)
    above = tuple(
        tuple(sorted({number[parent] for parent in parents.get(name, ())}))
        for name in latent_names + observed_names
    )
    order = _parents_first(above, latent_names + observed_names)
    count = len(latent_names)
    relevant = as_set(range(count, len(above)))
    for node in reversed(order):
        if relevant >> node & 1:
            relevant |= as_set(above[node])
    first = as_set([number[name] for name in summed_out])
    elected = search(Dag(above, count, relevant, order, first), plans, work=work)
    sampling = elected.order[::-1]
    place = {node: i for i, node in enumerate(sampling)}
    latents_only = (1 << count) - 1
    sets = [
        nodes & ~latents_only
        | as_set([place[n] for n in members(nodes & latents_only)])
        for nodes in reversed(elected.parents)
    ]
    return Inverse(
        ParentSets([latent_names[node] for node in sampling], observed_names, sets),
        elected.candidate,
        elected.candidates,
        digest,
        dict(labels or {}),
    )


def _check_names(
    names: Sequence[str], parents: Mapping[str, Sequence[str]], observed: frozenset[str]
) -> None:
    """Raise InversionError unless all names are known and stand once."""
    known = frozenset(names)
    problems = []
    if len(known) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        problems.append(
            Problem(f"node {twice}", "the name stands twice", "one node per name")
        )
    problems += [
        Problem("observed nodes", "unknown node", "a node of the graph", name)
        for name in sorted(observed - known)
    ]
    for name, above in parents.items():
        if name not in known:
            problems.append(Problem("parents", "unknown node", "a node", name))
        problems += [
            Problem(f"node {name}", "unknown parent", "a node of the graph", parent)
            for parent in above
            if parent not in known
        ]
    if problems:
        raise InversionError(*problems)


def _parents_first(
    parents: Sequence[Sequence[int]], names: Sequence[str]
) -> tuple[int, ...]:
    """Return the nodes, parents before children.

    Raises:
        InversionError: If there is a cycle.
    """
    children: list[list[int]] = [[] for _ in parents]
    waits_for = [len(above) for above in parents]
    for node, above in enumerate(parents):
        for parent in above:
            children[parent].append(node)
    order = [node for node, count in enumerate(waits_for) if not count]
    for node in order:
        for child in children[node]:
            waits_for[child] -= 1
            if not waits_for[child]:
                order.append(child)
    if len(order) < len(parents):
        stuck = [names[node] for node, count in enumerate(waits_for) if count]
        shown = ", ".join(stuck[:8]) + (", ..." if len(stuck) > 8 else "")
        raise InversionError.at(
            "graph", "its edges form a cycle", "an acyclic graph", shown
        )
    return tuple(order)

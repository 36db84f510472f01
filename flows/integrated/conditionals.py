r"""This file says which latents need no network, and what their conditionals are.

- A latent without observed descendants is integrated out by leaving out its own factor,
  once its children are: p(z_i | all others) = p(z_i | parents of z_i).
- A latent on the line whose Markov blanket is kept has the conditional

      p(z_i | all others, x) ∝ p(z_i | parents) Π over children j of p(z_j | parents),

  of known factors: one number is integrated over, and drawn (`lines.py`).
- Latents in each other's blankets are linked: they must be normal together
  (`linked.py`).

Latents of the first sort come last in sampling order, those of the second before them,
linked ones before these, the kept ones first. Of the second sort a set is taken none of
which is in another's blanket: taken one by one, those that exclude least for their
weight first, and those that exclude fewest; the heavier set of the two.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from daphne_bridge.graph.graph import Graph

from ..errors import ArgumentError
from ..model.layout import Layout

__all__ = [
    "Conditional",
    "blankets",
    "conditionals_of",
    "integrable",
    "latents_to_integrate",
    "linked_ones",
    "unseen_latents",
]


@dataclass(frozen=True, slots=True)
class Conditional:
    """The density of one latent on the line given others, up to a constant.

    Attributes:
        name: Of the latent.
        factors: Names of the nodes whose densities it is the product of.
        latents: Names of the other latents in these, in the order of the graph.
        observed: Names of the observed nodes in these.
    """

    name: str
    factors: tuple[str, ...]
    latents: tuple[str, ...]
    observed: tuple[str, ...]

    @property
    def is_prior(self) -> bool:
        """Whether it is the latent's density given its parents, and integrates to 1."""
        return self.factors == (self.name,)


def integrable(graph: Graph, layout: Layout) -> tuple[Conditional, ...]:
    """Return conditionals of latents that could be integrated over, each by itself.

    Args:
        graph: Of a model whose latents are all continuous.
        layout: Its columns.
    """
    lines = _on_the_line(layout)
    unseen = {*_unseen(graph, lines)}
    free = [n for n in lines if n not in unseen and _bounds_nothing(graph, n, unseen)]
    return tuple(_conditional(graph, name, unseen) for name in free)


def unseen_latents(graph: Graph, layout: Layout) -> tuple[str, ...]:
    """Return names of latents on the line without observed descendants."""
    return tuple(_unseen(graph, _on_the_line(layout)))


def latents_to_integrate(
    graph: Graph,
    layout: Layout,
    weights: Mapping[str, float] | None = None,
    linked: Collection[str] = (),
) -> tuple[str, ...]:
    """Return names of latents that need no network, unseen ones last.

    At least one latent is kept.

    Args:
        graph: Of a model whose latents are all continuous.
        layout: Its columns.
        weights: What it is worth to integrate over a latent, positive; those without
            one are kept. The same for all where there are none.
        linked: Latents that go together; no other is in their others.
    """
    lines = _on_the_line(layout)
    unseen = _unseen(graph, lines)
    gone = {*unseen, *linked}
    kept = [name for name in graph.latents if name not in gone]
    others = {each.name: {*each.latents} for each in integrable(graph, layout)}
    weights = dict.fromkeys(others, 1.0) if weights is None else weights
    others = {
        name: own
        for name, own in others.items()
        if name in weights and own.isdisjoint(linked) and name not in linked
    }
    chosen = {*linked, *_heaviest_apart(others, weights, len(kept) - 1)}
    return (*(n for n in lines if n in chosen), *(unseen if kept else unseen[1:]))


def conditionals_of(
    graph: Graph, layout: Layout, names: Collection[str]
) -> tuple[Conditional, ...]:
    """Return the conditionals of latents that are integrated out, unseen ones last.

    Args:
        graph: Of the model.
        layout: Its columns.
        names: Of these latents.

    Raises:
        ArgumentError: If one of them is not on the line, or its conditional is not made
            of known factors.
    """
    wanted = {*names}
    lines = [name for name in _on_the_line(layout) if name in wanted]
    unseen = _unseen(graph, lines)
    left_out = {*unseen}
    chosen = [name for name in lines if name not in left_out]
    found = tuple(_conditional(graph, n, left_out) for n in (*chosen, *unseen))
    are_free = all(_bounds_nothing(graph, name, unseen) for name in chosen)
    if len(found) < len(names) or not are_free:
        what = "not all of these have a conditional of known factors on the line"
        expected = "numbers that bound the support of no latent"
        raise ArgumentError.at(
            "integrated latents", what, expected, ", ".join(names)[:80]
        )
    return found


def linked_ones(conditionals: Sequence[Conditional]) -> tuple[Conditional, ...]:
    """Return those that are in another's Markov blanket, unseen latents left out."""
    integrals = [each for each in conditionals if not each.is_prior]
    graph = blankets(integrals)
    return tuple(each for each in integrals if graph.degree[each.name])


def blankets(conditionals: Iterable[Conditional]) -> "nx.Graph[str]":
    """Return their latents, those in each other's Markov blankets joined.

    Args:
        conditionals: Each given all others.
    """
    of = {each.name: each for each in conditionals}
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(of)
    pairs = ((name, other) for name, each in of.items() for other in each.latents)
    graph.add_edges_from(pair for pair in pairs if pair[1] in of)
    return graph


def _on_the_line(layout: Layout) -> list[str]:
    return [v.name for v in layout.latents if not v.shape and v.free_size == 1]


def _unseen(graph: Graph, names: Sequence[str]) -> list[str]:
    """Return those of some latents, in the order of the graph, that no other reads."""
    found: list[str] = []
    for name in reversed(names):
        if set(graph.children(name)) <= {*found}:
            found.insert(0, name)
    return found


def _conditional(graph: Graph, name: str, unseen: Collection[str]) -> Conditional:
    """Return the conditional of a latent, those that no other reads left out."""
    factors = (name, *(c for c in graph.children(name) if c not in unseen))
    scope = {node for f in factors for node in (f, *graph.parents(f))} - {name}
    return Conditional(
        name,
        factors,
        tuple(n for n in graph.latents if n in scope),
        tuple(n for n in graph.observed if n in scope),
    )


def _bounds_nothing(graph: Graph, name: str, unseen: Collection[str]) -> bool:
    """Return whether no kept latent's support may depend on a latent."""
    kept = [c for c in graph.children(name) if c in graph.latents and c not in unseen]
    return all(f.support != "interval" for c in kept for f in graph.node(c).families)


def _heaviest_apart(
    blankets: Mapping[str, Collection[str]], weights: Mapping[str, float], most: int
) -> list[str]:
    """Return at most so many latents, none in another's blanket, of large weight."""

    def taken(share: Callable[[str, int], tuple[float, float]]) -> list[str]:
        left, found = set(blankets), list[str]()
        while left and len(found) < most:
            excluded = {n: 1 + len(left.intersection(blankets[n])) for n in left}
            name = max(
                (n for n in blankets if n in left), key=lambda n: share(n, excluded[n])
            )
            found.append(name)
            left -= {name, *blankets[name]}
        return found

    by_weight = taken(lambda name, excluded: (weights[name] / excluded, 0.0))
    by_number = taken(lambda name, excluded: (1.0 / excluded, weights[name]))
    return max(by_number, by_weight, key=lambda names: sum(weights[n] for n in names))

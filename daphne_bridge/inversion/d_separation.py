"""This file judges an inverse: is it faithful, is it minimal?

Let G be the model's directed graph and z_1, ..., z_n the latents in sampling order. The
inverse claims for each i that

    z_i  is independent of  (z_1, ..., z_{i-1}, x without pa_i)  given  pa_i,

and these claims imply all others that it makes. It is faithful if each claim holds in G
by d-separation, and minimal if after the removal of any edge one no longer does. The
judge asks networkx, query by query, and knows nothing of how an inverse is made; it is
meant for small graphs.

References:
    Pearl (1988), Probabilistic Reasoning in Intelligent Systems, 3.3. Lauritzen et al.
    (1990), Independence properties of directed Markov fields, Networks 20(5).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import networkx as nx

from ..errors import InversionError, Problem
from ..graph.graph import Graph

__all__ = ["FalseClaim", "InverseLike", "Judgement", "judge", "judge_inverse"]


class InverseLike(Protocol):
    """What is judged: latents in sampling order, and their parents by name."""

    @property
    def latents(self) -> Sequence[str]:
        """Names in sampling order."""

    @property
    def parents(self) -> Mapping[str, Sequence[str]]:
        """Names of parents by latent."""


@dataclass(frozen=True, slots=True)
class FalseClaim:
    """An independence that the inverse claims and the graph does not have.

    Attributes:
        latent: The latent whose parents are too few.
        others: Nodes it is not independent of given its parents; each alone if
            possible, else all together.
    """

    latent: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an inverse.

    Attributes:
        false_claims: Empty if it is faithful.
        removable: Edges (parent, latent) that can go, each by itself.
    """

    false_claims: tuple[FalseClaim, ...]
    removable: tuple[tuple[str, str], ...]

    @property
    def is_faithful(self) -> bool:
        """Whether every claimed independence holds in the graph."""
        return not self.false_claims

    @property
    def is_minimal(self) -> bool:
        """Whether no edge can go."""
        return not self.removable


def judge_inverse(graph: Graph, inverse: InverseLike) -> Judgement:
    """Return what is wrong with an inverse of `graph`.

    Raises:
        InversionError: If it is not an inverse of these nodes at all.
    """
    parents = {node.name: node.parents for node in graph.nodes}
    return judge(parents, graph.observed, inverse.latents, inverse.parents)


def judge(
    graph_parents: Mapping[str, Sequence[str]],
    observed: Collection[str],
    latents: Sequence[str],
    inverse_parents: Mapping[str, Sequence[str]],
) -> Judgement:
    """Return what is wrong with an inverse.

    Args:
        graph_parents: Parents of every node of the graph.
        observed: The observed nodes.
        latents: The latents in sampling order.
        inverse_parents: Parents of each latent in the inverse.

    Raises:
        InversionError: If a latent is missing or stands twice, or a parent is not an
            earlier latent or an observed node.
    """
    expected = sorted(set(graph_parents) - set(observed))
    _check_shape(expected, observed, latents, inverse_parents)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(graph_parents)
    graph.add_edges_from(
        (parent, node) for node, above in graph_parents.items() for parent in above
    )
    false_claims = []
    removable = []
    earlier = set(observed)
    for latent in latents:
        parents = set(inverse_parents[latent])
        if not _separated(graph, latent, earlier - parents, parents):
            false_claims.append(_false_claim(graph, latent, earlier - parents, parents))
        for parent in inverse_parents[latent]:
            fewer = parents - {parent}
            if _separated(graph, latent, earlier - fewer, fewer):
                removable.append((parent, latent))
        earlier.add(latent)
    return Judgement(tuple(false_claims), tuple(removable))


def _separated(
    graph: "nx.DiGraph[str]", latent: str, others: set[str], given: set[str]
) -> bool:
    return not others or bool(nx.is_d_separator(graph, {latent}, others, given))


def _false_claim(
    graph: "nx.DiGraph[str]", latent: str, others: set[str], given: set[str]
) -> FalseClaim:
    alone = [other for other in others if not _separated(graph, latent, {other}, given)]
    return FalseClaim(latent, tuple(sorted(alone or others)))


def _check_shape(
    expected: Sequence[str],
    observed: Collection[str],
    latents: Sequence[str],
    inverse_parents: Mapping[str, Sequence[str]],
) -> None:
    problems = []
    if sorted(latents) != expected:
        problems.append(
            Problem(
                "inverse",
                "its latents are not those of the graph, each once",
                ", ".join(expected),
                ", ".join(latents),
            )
        )
    earlier = set(observed)
    for latent in latents:
        problems += [
            Problem(
                f"inverse: {latent}",
                "a parent that is not known when the latent is sampled",
                "an earlier latent or an observed node",
                parent,
            )
            for parent in inverse_parents[latent]
            if parent not in earlier
        ]
        earlier.add(latent)
    if problems:
        raise InversionError(*problems)

"""This file lists the plans of inversion: which latent may go next, and which one does.

NaMI eliminates the latents one by one from the moral graph. Eligible is a latent whose
latent parents ("topological" mode) or latent children ("reverse" mode) are all
eliminated; among the eligible the one with the fewest fill edges goes next; its
neighbours become its parents in the inverse. The published algorithm leaves ties open,
and the number of edges depends on them, so there are several `RULES` for both modes. A
third mode, "any order", lets every latent go at any time: its inverses follow neither
direction of the model, and are often much sparser. A chain of T observed states has
T²/2 edges in either published mode and about T log T in any order, because elimination
then halves the chain again and again.

Each order has one minimal inverse: the parents of v are its Markov boundary among the
nodes that remain. Elimination gives exactly that when every latent has an observed
descendant. A latent without one, here called barren, marries its parents in the moral
graph for as long as the algorithm runs, although it says nothing about them once it is
eliminated; NaMI then leaves edges that can go. Barren latents are treated in two ways:
"in turn", as published, with the superfluous edges removed afterwards, and "from
prior": they are sampled last, given their own parents, and leave the moral graph before
anything else happens.

References:
    Webb et al. (2018), Faithful Inversion of Generative Models for Effective Amortized
    Inference, NeurIPS, Algorithm 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .elimination import as_set, members

__all__ = [
    "MODES",
    "PUBLISHED",
    "RULES",
    "Barren",
    "Dag",
    "Key",
    "Mode",
    "Plan",
    "plans_for",
]

Mode = Literal["topological", "reverse", "any order"]
Barren = Literal["in turn", "from prior"]

MODES: tuple[Mode, ...] = ("topological", "reverse", "any order")

Key = tuple[int, ...]

RULES: Mapping[str, Callable[[int, int, int], Key]] = MappingProxyType(
    {
        "min-fill": lambda fill, _degree, place: (fill, place),
        "min-fill, latest": lambda fill, _degree, place: (fill, -place),
        "min-fill, fewest parents": lambda fill, degree, place: (fill, degree, place),
        "min-fill, most parents": lambda fill, degree, place: (fill, -degree, place),
        "fewest parents": lambda fill, degree, place: (degree, fill, place),
        "program order": lambda _fill, _degree, place: (place,),
    }
)
"""Rules by name: (fill edges, neighbours, place in the program) -> smallest goes next.

The published rule is the first. "program order" means first to last in topological
mode and last to first in reverse mode.
"""


@dataclass(frozen=True, slots=True)
class Dag:
    """The directed graph of a model, nodes as numbers, latents first.

    Attributes:
        parents: Parents of each node.
        num_latents: Nodes 0 to num_latents - 1 are latent.
        ancestors_of_data: The observed nodes and all their ancestors, a bit set.
        order: All nodes, parents first.
        summed_out: Latents that are eliminated before all others, a bit set.
    """

    parents: tuple[tuple[int, ...], ...]
    num_latents: int
    ancestors_of_data: int
    order: tuple[int, ...]
    summed_out: int = 0

    @property
    def latents(self) -> int:
        """The latents, a bit set."""
        return (1 << self.num_latents) - 1

    @property
    def barren(self) -> int:
        """The latents without observed descendants, a bit set."""
        return self.latents & ~self.ancestors_of_data

    @property
    def barren_marry(self) -> bool:
        """Whether a barren latent has several parents."""
        return any(len(self.parents[node]) > 1 for node in members(self.barren))

    @property
    def barren_matter(self) -> bool:
        """Whether a barren latent has a parent or a child."""
        children = self.barren & as_set([p for above in self.parents for p in above])
        return bool(children) or any(self.parents[n] for n in members(self.barren))

    def has_latent_edges(self, nodes: int) -> bool:
        """Return whether two latents among the nodes are parent and child."""
        return any(
            nodes >> parent & 1
            for node in members(nodes & self.latents)
            for parent in self.parents[node]
            if parent < self.num_latents
        )

    def core(self, barren: Barren) -> int:
        """Return the nodes that take part in the elimination, a bit set."""
        if barren == "from prior":
            return self.ancestors_of_data
        return (1 << len(self.parents)) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """One way of inverting.

    Attributes:
        mode: Which latents are eligible.
        rule: Which eligible latent goes next, a key of `RULES`.
        barren: What happens to latents without observed descendants.
    """

    mode: Mode
    rule: str
    barren: Barren


PUBLISHED: tuple[Plan, ...] = (
    Plan("topological", "min-fill", "in turn"),
    Plan("reverse", "min-fill", "in turn"),
)
"""NaMI as published, in its two modes, ties by program order."""


def plans_for(dag: Dag) -> tuple[Plan, ...]:
    """Return the plans that `search` tries by itself, the published modes first.

    Where some latents are summed out, whatever the direction of the model, the order
    within them and within the others is free.
    """
    if dag.summed_out:
        return tuple(
            Plan("any order", rule, "in turn")
            for rule in RULES
            if rule != "program order"
        )
    variants: tuple[Barren, ...] = ("in turn",)
    if dag.barren_matter:
        variants += ("from prior",)
    plans = [
        Plan(mode, rule, barren)
        for barren in variants
        for rule in RULES
        for mode in MODES
        if (mode, rule) != ("any order", "program order")
    ]
    return tuple(sorted(plans, key=lambda plan: plan.mode == "any order"))

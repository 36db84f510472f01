"""This file is a model's learned factors, each of predictors of its own.

In every link function fresh latents stand for the predictors, and a copy of a latent
for one that is read in another way, so that the factors share nothing: one look at the
model gives every factor at predictors of its own, and one gradient the slopes of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    ExpressionTable,
    Reference,
    free_names,
)
from daphne_bridge.graph.graph import Graph, Node

from ..errors import ArgumentError
from ..model.layout import Layout
from ..model.model import Model
from .bilinear import Columns
from .holes import Holes, holes_of
from .reading import potentials_of_node

__all__ = ["Separated"]

_ANYWHERE: dict[str, tuple[str, tuple[float, ...]]] = {
    "real": ("normal", (0.0, 1.0)),
    "positive": ("exponential", (1.0,)),
    "nonnegative": ("exponential", (1.0,)),
    "unit interval": ("beta", (1.0, 1.0)),
}
"""A distribution of each support that has free coordinates of its own."""


@dataclass(frozen=True)
class Separated:
    """The learned factors of a model.

    Args:
        model: of the factors apart.
        names: of the factors, in the order of the learned potentials.
        columns: free columns of the apart model that hold each of a factor's
            predictors.
        own: position of a factor's own latent in that model; -1 where it has none.
    """

    model: Model
    names: tuple[str, ...]
    columns: tuple[tuple[tuple[int, ...], ...], ...]
    own: tuple[int, ...]

    @classmethod
    def of(cls, graph: Graph, layout: Layout) -> "Separated":
        """The factors of a graph.

        Raises:
            ArgumentError: if a latent's bounds depend on others.
        """
        columns, table = Columns.of(graph, layout), ExpressionTable()
        nodes: list[Node] = []
        found: list[tuple[str, Holes]] = []
        for node in graph.nodes:
            is_learned = any(
                not each.is_exact for each in potentials_of_node(node, columns)
            )
            if is_learned or node.is_observed:
                holes = holes_of(node, columns)
                nodes.extend(_apart(node, holes, columns, graph, table))
            if is_learned:
                found.append((node.name, holes))
        model = Model.from_graph(Graph(tuple(nodes), source=graph.source)).forgiving()
        free = {v.name: (v.free_start, v.free_stop) for v in model.layout.latents}
        order = [v.name for v in model.layout.latents]
        places = []
        for name, holes in found:
            held: list[list[int]] = [[] for _ in holes.predictors]
            for fresh, numbers in _fresh(name, holes):
                for column, number in zip(range(*free[fresh]), numbers, strict=True):
                    held[number].append(column)
            own = [[c] for c in range(*free[name])] if name in free else []
            places.append(tuple(tuple(each) for each in [*held, *own]))
        return cls(
            model,
            tuple(name for name, _ in found),
            tuple(places),
            tuple(order.index(n) if n in free else -1 for n, _ in found),
        )

    def log_factors(
        self,
        chosen: list[int],
        predictors: Float[Tensor, "point factor predictor"],
        observed: Float[Tensor, " observed"],
    ) -> Float[Tensor, "point factor"]:
        """Log densities of some factors, in free coordinates.

        Args:
            chosen: numbers of factors of one form.
            predictors: of each of them.
            observed: the data.
        """
        free = predictors.new_zeros(len(predictors), self.model.layout.free_dim)
        columns: list[int] = []
        sources: list[int] = []
        count = predictors.shape[-1]
        for place, number in enumerate(chosen):
            for k, held in enumerate(self.columns[number]):
                columns.extend(held)
                sources.extend([place * count + k] * len(held))
        free = free.index_copy(
            1, torch.tensor(columns), predictors.flatten(1)[:, sources]
        )
        latents, _ = self.model.constrain(free)
        names = [self.names[number] for number in chosen]
        rows = observed.expand(len(free), -1)
        terms = self.model.log_terms_of(names, latents, rows)
        if self.own[chosen[0]] >= 0:
            own = [self.own[number] for number in chosen]
            terms = terms + self.model.constrain_terms(free)[:, own]
        return terms


def _fresh(name: str, holes: Holes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of what stands for a factor's holes, with the predictors that it holds."""
    for number, places in enumerate(holes.places.values()):
        yield f"{name} {number}", places


def _apart(
    node: Node, holes: Holes, columns: Columns, graph: Graph, table: ExpressionTable
) -> Iterator[Node]:
    """A node that reads fresh latents, after these."""
    stands = {
        key: name
        for key, (name, _) in zip(holes.places, _fresh(node.name, holes), strict=True)
    }
    made: dict[int, Expression] = {}
    for each in holes.order:
        match each:
            case _ if id(each) in stands:
                made[id(each)] = table.reference(stands[id(each)])
                yield _latent(stands[id(each)], _prior(each, columns, graph, table))
            case Constant(value=value):
                made[id(each)] = table.constant(value)
            case Reference(name=name):
                made[id(each)] = table.reference(name)
            case Call(head=head, arguments=arguments):
                given = [made[id(argument)] for argument in arguments]
                made[id(each)] = table.call(head, given)
    distribution = made[id(node.distribution)]
    condition = node.condition and made[id(node.condition)]
    parents = free_names(distribution, *([condition] if condition else []))
    yield Node(
        node.name,
        node.label,
        distribution,
        condition,
        node.is_observed,
        node.observation,
        parents,
    )


def _latent(name: str, prior: Expression) -> Node:
    return Node(name, name, prior, None, False, None, ())  # noqa: FBT003


def _prior(
    hole: Expression, columns: Columns, graph: Graph, table: ExpressionTable
) -> Expression:
    """A distribution with the free coordinates of what stands in a hole."""
    if isinstance(hole, Reference) and columns.latents[hole.name].shape:
        own = graph.node(hole.name).distribution
        if not free_names(own):
            return own
    elif isinstance(hole, Reference) and hole.name not in columns.real:
        node = graph.node(hole.name)
        if not free_names(node.distribution):
            return node.distribution
        supports = {family.support for family in node.families}
        if len(supports) == 1 and (kind := supports.pop()) in _ANYWHERE:
            return _anywhere(kind, table)
    else:
        return _anywhere("real", table)
    raise ArgumentError.at(
        "structured-gaussian, one data set",
        f"where {hole.name} has mass depends on other latents",
        "latents whose bounds are known",
        hole.name,
    )


def _anywhere(support: str, table: ExpressionTable) -> Expression:
    head, numbers = _ANYWHERE[support]
    return table.call(head, [table.constant(number) for number in numbers])

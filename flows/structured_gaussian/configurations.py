"""This file reads a mixture of structured Gaussians off a model with discrete latents.

At each configuration of the discrete latents, put into the link functions, the model's
factors are those of continuous latents alone. If all of them are exact then, and the
configuration's probability is a number, the posterior is a mixture with one structured
Gaussian for each of them.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from daphne_bridge.graph.expression import Constant, Value, free_names, is_false
from daphne_bridge.graph.graph import Graph
from daphne_bridge.graph.nodes import Node

from ..errors import ArgumentError
from ..flow.potentials import Potential
from ..marginal.specialise import Specialiser
from ..marginal.target import target_of
from ..model.layout import Layout
from ..model.model import Model
from .bilinear import Columns
from .reading import potentials_of_node

__all__ = ["MOST_CONFIGURATIONS", "mixture_potentials"]

MOST_CONFIGURATIONS = 64
"""Components of a mixture."""


def mixture_potentials(graph: Graph, layout: Layout) -> tuple[Potential, ...]:
    """The exact potentials of all configurations, one component for each.

    Args:
        graph: with discrete latents.
        layout: of the continuous ones.

    Raises:
        ArgumentError: if there are too many configurations, or a factor is not exact.
    """
    target = target_of(Model.from_graph(graph))
    values: Mapping[str, tuple[Value, ...]] = getattr(target, "tables").values  # noqa: B009
    count = math.prod(map(len, values.values()))
    if count > MOST_CONFIGURATIONS:
        raise _refused(
            "discrete latents have too many configurations",
            f"at most {MOST_CONFIGURATIONS}",
            f"{count}",
        )
    specialiser, columns = Specialiser(values), Columns.of(graph, layout)
    found: list[Potential] = []
    component = 0
    for chosen in itertools.product(*values.values()):
        known = dict(zip(values, chosen, strict=True))
        constant = _log_prior(graph, specialiser, known)
        if constant == -math.inf:
            continue
        prior = Potential((), (), (), 0, "", component=component, constant=constant)
        parts = _factors(graph, specialiser, known, columns)
        found += [prior, *(replace(each, component=component) for each in parts)]
        component += 1
    return tuple(found)


def _factors(
    graph: Graph,
    specialiser: Specialiser,
    known: Mapping[str, Value],
    columns: Columns,
) -> Iterator[Potential]:
    """Potentials of the nodes that are not summed out."""
    for node in graph.nodes:
        if node.name in known:
            continue
        apart = _at(node, specialiser, known)
        match apart.condition:
            case Constant(value=value) if is_false(value):
                continue
            case Constant():
                apart = replace(apart, condition=None)
        reads = {*known} & {*node.parents}
        for each in potentials_of_node(apart, columns, always=bool(reads)):
            if not each.is_exact:
                raise _refused(
                    "a factor is not linear and normal given the discrete latents",
                    "a mixture of linear-Gaussian models, or no discrete latents",
                    node.label,
                )
            yield each


def _log_prior(
    graph: Graph, specialiser: Specialiser, known: Mapping[str, Value]
) -> float:
    """Log probability of a configuration, in nats."""
    nodes = []
    for name, value in known.items():
        node = _at(graph.node(name), specialiser, known)
        if node.parents:
            raise _refused(
                "the probabilities of a discrete latent depend on other latents",
                "numbers, or functions of discrete latents",
                node.label,
            )
        nodes.append(replace(node, is_observed=True, observation=value))
    model = Model.from_graph(Graph(tuple(nodes), source=graph.source))
    data = model.observation()[None]
    return float(model.log_likelihood_terms(data[:, :0], data).sum())


def _at(node: Node, specialiser: Specialiser, known: Mapping[str, Value]) -> Node:
    distribution = specialiser.at(node.distribution, known)
    condition = node.condition and specialiser.at(node.condition, known)
    parents = free_names(distribution, *([condition] if condition else []))
    return replace(
        node, distribution=distribution, condition=condition, parents=parents
    )


def _refused(what: str, expected: str, got: str) -> ArgumentError:
    return ArgumentError.at("structured-gaussian", what, expected, got)

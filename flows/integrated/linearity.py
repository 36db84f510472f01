"""This file says which models, and which conditionals, are linear and normal.

Every node is normal, its mean linear in latents, with data for coefficients, and its
scale no function of them. The affine layer of a flow is the posterior of such a model.
A conditional whose factors are so in its own latent is normal, whatever the others do.
"""

import math
from collections.abc import Collection, Iterable, Mapping

from daphne_bridge.graph.expression import Call, Expression, Reference, postorder
from daphne_bridge.graph.graph import Graph, Node

from .conditionals import Conditional

__all__ = ["is_linear_normal", "normal_ones"]


def is_linear_normal(graph: Graph) -> bool:
    """Return whether the posterior of a graph's latents is normal for this reason."""
    latents = set(graph.latents)
    for node in graph.nodes:
        is_linear = latents.isdisjoint({node.name, *node.parents})
        is_linear |= _is_normal_in(node, latents)
        if not is_linear or node.condition is not None:
            return False
    return True


def normal_ones(graph: Graph, conditionals: Iterable[Conditional]) -> frozenset[str]:
    """Return the latents whose conditionals have parabolas for logarithms, so.

    Every factor of one is normal, with a mean that is linear in the latent.
    """
    conditionals = tuple(conditionals)
    names = {each.name for each in conditionals}
    factors = {name for each in conditionals for name in each.factors}
    linear = {name: _linear_in(graph.node(name), names) for name in factors}
    return frozenset(
        each.name
        for each in conditionals
        if all(each.name in linear[factor] for factor in each.factors)
    )


def _is_normal_in(node: Node, latents: Collection[str]) -> bool:
    """Return whether a factor is normal, its mean linear in latents together."""
    match node.distribution:
        case Call(head="normal", arguments=(mean, scale)):
            together = dict.fromkeys(latents, "")
            degrees = _degrees(mean, together)
            return max(degrees.values(), default=0.0) <= 1.0 and not _degrees(
                scale, together
            )
    return False


def _linear_in(node: Node, latents: Collection[str]) -> frozenset[str]:
    """Return the latents in each of which alone a factor is normal and linear."""
    match node.distribution:
        case Call(head="normal", arguments=(mean, scale)) if node.condition is None:
            apart = {name: name for name in latents}
            found, other = _degrees(mean, apart), _degrees(scale, apart)
            linear = {name for name, degree in found.items() if degree <= 1.0}
            return frozenset({node.name, *linear}.difference(other))
    return frozenset()


def _degrees(
    expression: Expression, variables: Mapping[str, str]
) -> Mapping[str, float]:
    """Return the degree of a polynomial in each variable that it has.

    It is infinite where it is no polynomial.

    Args:
        expression: Of nodes.
        variables: By the names of these, which one a latent counts for.
    """
    found: dict[int, Mapping[str, float]] = {}
    for each in postorder([expression]):
        degrees: dict[str, float] = {}
        match each:
            case Reference(name=name) if name in variables:
                degrees = {variables[name]: 1.0}
            case Call(head=head, arguments=arguments):
                for place, argument in enumerate(arguments):
                    for name, own in found[id(argument)].items():
                        before = degrees.get(name, 0.0)
                        if head in ("+", "-"):
                            degrees[name] = max(before, own)
                        elif head == "*" or (
                            head == "/" and place == 0 and len(arguments) > 1
                        ):
                            degrees[name] = before + own
                        else:
                            degrees[name] = math.inf
        found[id(each)] = degrees
    return found[id(expression)]

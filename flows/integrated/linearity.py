"""This file says which models, and which conditionals, are linear and normal.

Every node is normal, its mean linear in latents, with data for coefficients, and its
scale no function of them. The affine layer of a flow is the posterior of such a model.
A conditional whose factors are so in its own latent is normal, whatever the others do.
"""

import math
from collections.abc import Collection

from daphne_bridge.graph.expression import Call, Expression, Reference, postorder
from daphne_bridge.graph.graph import Graph, Node

from .conditionals import Conditional

__all__ = ["is_linear_normal", "is_normal"]


def is_linear_normal(graph: Graph) -> bool:
    """Return whether the posterior of a graph's latents is normal for this reason."""
    latents = set(graph.latents)
    for node in graph.nodes:
        is_linear = latents.isdisjoint({node.name, *node.parents})
        is_linear |= _is_normal_in(node, latents)
        if not is_linear or node.condition is not None:
            return False
    return True


def is_normal(graph: Graph, conditional: Conditional) -> bool:
    """Return whether the logarithm of a conditional is a parabola for this reason."""
    factors = [graph.node(name) for name in conditional.factors]
    own = {conditional.name}
    return all(_is_normal_in(f, own) and f.condition is None for f in factors)


def _is_normal_in(node: Node, latents: Collection[str]) -> bool:
    """Return whether a factor is normal, with a mean that is linear in latents."""
    match node.distribution:
        case Call(head="normal", arguments=(mean, scale)):
            return _degree(mean, latents) <= 1 and not _degree(scale, latents)
    return False


def _degree(expression: Expression, latents: Collection[str]) -> float:
    """Return the degree in latents of a polynomial; infinite where it is none."""
    degrees: dict[int, float] = {}
    for each in postorder([expression]):
        found = 0.0
        match each:
            case Reference(name=name):
                found = float(name in latents)
            case Call(head=head, arguments=arguments):
                own = [degrees[id(argument)] for argument in arguments]
                if head in ("+", "-"):
                    found = max(own, default=0.0)
                elif head == "*" or (head == "/" and len(own) > 1 and not any(own[1:])):
                    found = sum(own)
                elif any(own):
                    found = math.inf
        degrees[id(each)] = found
    return degrees[id(expression)]

"""This file says which models are linear and normal in their latents, given the data.

Every node is normal, its mean linear in latents, with data for coefficients, and its
scale no function of them. The affine layer of a flow is the posterior of such a model.
"""

import math
from collections.abc import Collection

from daphne_bridge.graph.expression import Call, Expression, Reference, postorder
from daphne_bridge.graph.graph import Graph

__all__ = ["is_linear_normal"]


def is_linear_normal(graph: Graph) -> bool:
    """Return whether the posterior of a graph's latents is normal for this reason."""
    latents = set(graph.latents)
    for node in graph.nodes:
        match node.distribution:
            case Call(head="normal", arguments=(mean, scale)):
                is_linear = _degree(mean, latents) <= 1 and not _degree(scale, latents)
            case _:
                is_linear = latents.isdisjoint({node.name, *node.parents})
        if not is_linear or node.condition is not None:
            return False
    return True


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

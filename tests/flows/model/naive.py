"""This file evaluates a graph node by node in torch: oracle and yardstick for speed.

Every node's link function is walked on tensors [row], every density is one call of
`torch.distributions`. Covers the scalar families and arithmetic of the benchmarks.
"""

import torch
from torch import Tensor, distributions

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    Reference,
    postorder,
)
from daphne_bridge.graph.graph import Graph

__all__ = ["naive_log_joint"]

_FAMILIES = {
    "normal": distributions.Normal,
    "laplace": distributions.Laplace,
    "gamma": distributions.Gamma,
    "exponential": distributions.Exponential,
    "beta": distributions.Beta,
}


def _fold(operate):
    def run(first, *rest):
        for other in rest:
            first = operate(first, other)
        return first

    return run


_PRIMITIVES = {
    "+": _fold(lambda a, b: a + b),
    "-": lambda a, *rest: _fold(lambda x, y: x - y)(a, *rest) if rest else -a,
    "*": _fold(lambda a, b: a * b),
    "/": _fold(lambda a, b: a / b),
    "tanh": torch.tanh,
    "exp": torch.exp,
}


def _tensor(value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else like.new_tensor(float(value))


def _value(expression: Expression, values: dict, known: dict):
    """Return the value of an expression; each one is worked out once."""
    for current in postorder([expression]):
        if id(current) in known:
            continue
        if isinstance(current, Constant):
            known[id(current)] = current.value
        elif isinstance(current, Reference):
            known[id(current)] = values[current.name]
        else:
            arguments = (known[id(a)] for a in current.arguments)
            known[id(current)] = _PRIMITIVES[current.head](*arguments)
    return known[id(expression)]


def naive_log_joint(graph: Graph, layout, latents: Tensor, observed: Tensor) -> Tensor:
    """Return log p(latents, observed), one node after the other."""
    values = {}
    for node in graph.nodes:
        variable = layout.variable(node.name)
        source = observed if node.is_observed else latents
        values[node.name] = source[..., variable.start]
    known: dict = {}
    total = latents.new_zeros(latents.shape[0])
    for node in graph.nodes:
        call = node.distribution
        assert isinstance(call, Call)
        parameters = [
            _tensor(_value(argument, values, known), latents)
            for argument in call.arguments
        ]
        family = _FAMILIES[call.head](*parameters, validate_args=False)
        total = total + family.log_prob(values[node.name])
    return total

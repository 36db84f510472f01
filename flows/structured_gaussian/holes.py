"""This file finds the predictors of a link function, and what it is around them.

Predictors are the largest parts that are bilinear in latents and data, and the columns
of a latent that is read in another way. With holes in their place, factors that differ
in them alone are of one form.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from daphne_bridge.graph.expression import (
    Call,
    Constant,
    Expression,
    Reference,
    postorder,
    show_value,
)
from daphne_bridge.graph.nodes import Node

from .bilinear import Bilinear, Columns, bilinear_forms

__all__ = ["Holes", "holes_of"]


@dataclass(frozen=True, slots=True)
class Holes:
    """A link function with holes.

    Args:
        order: what is around them, arguments first, and the expressions in them.
        places: numbers of the predictors of an expression in a hole, by its id.
        predictors: the same ones once.
        form: digest of what is around them.
    """

    order: tuple[Expression, ...]
    places: Mapping[int, tuple[int, ...]]
    predictors: tuple[Bilinear, ...]
    form: str


def holes_of(node: Node, columns: Columns) -> Holes:
    """The holes of a node's distribution and of its condition."""
    roots = [node.distribution, *([node.condition] if node.condition else [])]
    order = list(postorder(roots))
    forms = bilinear_forms(order, columns)
    reads = _reads(order, columns)
    needed = {id(root) for root in roots}
    for each in reversed(order):
        is_around = not reads[id(each)] or forms[id(each)] is None
        if id(each) in needed and isinstance(each, Call) and is_around:
            needed.update(id(argument) for argument in each.arguments)
    predictors: list[Bilinear] = []
    places: dict[int, tuple[int, ...]] = {}
    numbers: dict[int, int] = {}
    data: dict[str, int] = {}
    texts = []
    around = tuple(each for each in order if id(each) in needed)
    for each in around:
        form = forms[id(each)]
        match each:
            case _ if reads[id(each)] and form is not None:
                places[id(each)] = (_place(predictors, form),)
                text = f"predictor {places[id(each)]}"
            case Reference(name=name) if reads[id(each)]:
                free = columns.latents[name].free_columns
                found = [_place(predictors, {(c, None): 1.0}) for c in free]
                places[id(each)] = tuple(found)
                text = f"latent {found}"
            case Reference(name=name):
                text = f"data {data.setdefault(name, len(data))}"
            case Constant(value=value):
                text = show_value(value)
            case Call(head=head, arguments=arguments):
                text = f"{head} {[numbers[id(a)] for a in arguments]}"
        numbers[id(each)] = len(numbers)
        texts.append(text)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Holes(around, places, tuple(predictors), digest[:16])


def _reads(order: list[Expression], columns: Columns) -> dict[int, bool]:
    """Which expressions read latents."""
    reads: dict[int, bool] = {}
    for each in order:
        match each:
            case Reference(name=name):
                reads[id(each)] = name in columns.latents
            case Call(arguments=arguments):
                reads[id(each)] = any(reads[id(a)] for a in arguments)
            case _:
                reads[id(each)] = False
    return reads


def _place(predictors: list[Bilinear], form: Bilinear) -> int:
    if form not in predictors:
        predictors.append(form)
    return predictors.index(form)

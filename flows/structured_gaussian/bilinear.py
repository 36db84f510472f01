"""This file finds what is linear in latents, and in data, inside a link function.

A bilinear form is a sum of products of a number, at most one latent's column and at
most one observed column: `[1, z] M [1, x]^T` of `flow/potentials.py`, entry by entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from daphne_bridge.graph.expression import Call, Constant, Expression, Reference
from daphne_bridge.graph.graph import Graph

from ..model.layout import Layout, Variable

__all__ = ["Bilinear", "Columns", "bilinear_forms"]

Bilinear = Mapping[tuple[int | None, int | None], float]
"""Numbers by the latent's free column and the observed column; None for one."""

_REAL = {"real", "real vector"}


@dataclass(frozen=True)
class Columns:
    """What columns a name of a graph has.

    Args:
        latents: variables of continuous latents by name.
        observed: variables of observed nodes by name.
        real: names of latents whose free coordinates are their values.
    """

    latents: Mapping[str, Variable]
    observed: Mapping[str, Variable]
    real: frozenset[str]

    @classmethod
    def of(cls, graph: Graph, layout: Layout) -> "Columns":
        """Those of a graph's nodes."""
        latents = {v.name: v for v in layout.latents}
        supports = {n: {f.support for f in graph.node(n).families} for n in latents}
        return cls(
            latents,
            {v.name: v for v in layout.observed},
            frozenset(n for n, found in supports.items() if found <= _REAL),
        )

    def form(self, name: str, place: int | None) -> Bilinear | None:
        """The value of a node, or of a place in it, if that is a column's."""
        is_latent = name in self.latents
        variable = self.latents[name] if is_latent else self.observed[name]
        if (place is None) == bool(variable.shape) or len(variable.shape) > 1:
            return None
        if place is not None and not 0 <= place < variable.size:
            return None
        if not is_latent:
            return {(None, variable.start + (place or 0)): 1.0}
        if name not in self.real:
            return None
        return {(variable.free_start + (place or 0), None): 1.0}


def bilinear_forms(
    order: list[Expression], columns: Columns
) -> dict[int, Bilinear | None]:
    """The form of each expression by its id; None where it has none.

    Args:
        order: expressions, arguments first.
        columns: of the names in them.
    """
    found: dict[int, Bilinear | None] = {}
    for each in order:
        match each:
            case Constant(value=value):
                is_number = isinstance(value, int | float)
                found[id(each)] = {(None, None): float(value)} if is_number else None
            case Reference(name=name):
                found[id(each)] = columns.form(name, None)
            case Call(head="get", arguments=(Reference(name=name), Constant(value=at))):
                place = at if type(at) is int else None
                found[id(each)] = None if place is None else columns.form(name, place)
            case Call(head=head, arguments=arguments):
                found[id(each)] = _combined(head, [found[id(a)] for a in arguments])
    return found


def _combined(head: str, given: list[Bilinear | None]) -> Bilinear | None:
    if head not in ("+", "-", "*", "/") or not given or None in given:
        return None
    forms = [form for form in given if form is not None]
    first, *others = forms
    if head == "-" and not others:
        return _scaled(first, -1.0)
    if head in ("+", "-"):
        sign = 1.0 if head == "+" else -1.0
        total = dict(first)
        for form in others:
            for key, value in form.items():
                total[key] = total.get(key, 0.0) + sign * value
        return total
    if head == "/":
        if not others or any(set(form) != {(None, None)} for form in others):
            return None
        numbers = [form[None, None] for form in others]
        if 0.0 in numbers:
            return None
        others = [{(None, None): 1.0 / number} for number in numbers]
    product: Bilinear | None = first
    for form in others:
        product = None if product is None else _product(product, form)
    return product


def _scaled(form: Bilinear, by: float) -> Bilinear:
    return {key: by * value for key, value in form.items()}


def _product(one: Bilinear, two: Bilinear) -> Bilinear | None:
    """The product of two forms, if no column is multiplied by one of its side."""
    total: dict[tuple[int | None, int | None], float] = {}
    for (latent, observed), value in one.items():
        for (other_latent, other_observed), other in two.items():
            if latent is not None and other_latent is not None:
                return None
            if observed is not None and other_observed is not None:
                return None
            key = (
                other_latent if latent is None else latent,
                other_observed if observed is None else observed,
            )
            total[key] = total.get(key, 0.0) + value * other
    return total

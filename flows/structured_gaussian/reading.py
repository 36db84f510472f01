"""This file reads the potentials of a model off its graph (`flow/potentials.py`).

A factor that is normal, its mean bilinear and its scale a number, is exact. Of any
other the predictors are the largest parts of its link function that are bilinear, and
single columns where nothing is; its form is the link function with holes for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from daphne_bridge.graph.expression import (
    Call,
    EvaluationError,
    Expression,
    Reference,
    evaluate,
    free_names,
    postorder,
)
from daphne_bridge.graph.graph import Graph
from daphne_bridge.graph.nodes import Node

from ..errors import ArgumentError
from ..flow.potentials import Potential
from ..model.layout import Layout
from ..model.standard_normal import HALF_LOG_TWO_PI
from .bilinear import Bilinear, Columns, bilinear_forms
from .holes import holes_of

__all__ = ["at_data", "potentials_of", "potentials_of_node"]


def potentials_of(graph: Graph, layout: Layout) -> tuple[Potential, ...]:
    """One potential for each factor that has a latent in its scope.

    Args:
        graph: of the model.
        layout: its columns.

    Raises:
        ArgumentError: if a latent is in no column, as it is summed or integrated out.
    """
    columns = Columns.of(graph, layout)
    missing = [n for n in graph.latents if n not in columns.latents]
    if missing or any(not v.free_size for v in layout.latents):
        gone = missing or [v.name for v in layout.latents if not v.free_size]
        raise ArgumentError.at(
            "structured-gaussian",
            "a latent that is not the flow's own",
            "continuous latents, none of them integrated out",
            gone[0],
        )
    return tuple(each for n in graph.nodes for each in potentials_of_node(n, columns))


def at_data(
    potentials: Sequence[Potential], observed: Sequence[float]
) -> tuple[Potential, ...]:
    """The potentials given one data set, which they read no more.

    Each learned one has numbers of its own, as there are no other data.
    """
    found = []
    for each in potentials:
        rows, across = each.shape
        given = np.array([1.0, *(observed[c] for c in each.observed)])
        matrix = np.array(each.predictors).reshape(-1, rows, across) @ given
        entries = tuple(matrix.ravel().tolist())
        known = replace(each, observed=(), predictors=entries, is_shared=False)
        found.append(known)
    return tuple(found)


def potentials_of_node(
    node: Node, columns: Columns, *, always: bool = False
) -> Iterator[Potential]:
    """The potential of a factor, if it has a latent.

    Args:
        node: whose density the factor is.
        columns: of all names.
        always: whether that of a factor without latents is wanted too.
    """
    is_latent = node.name in columns.latents
    reads = is_latent or any(p in columns.latents for p in node.parents)
    if not (reads or always):
        return
    residuals = _residuals(node, columns)
    if residuals is not None:
        found = _made(node, columns, residuals.forms, "")
        found = replace(found, constant=residuals.constant)
    else:
        holes = holes_of(node, columns)
        places = _own(node, columns) if is_latent else range(0)
        own: list[Bilinear] = [{(c, None): 1.0} for c in places]
        found = _made(node, columns, [*holes.predictors, *own], holes.form)
    if found.latents or always:
        yield found


@dataclass(frozen=True, slots=True)
class _Residuals:
    """Standardised residuals of a normal factor.

    Args:
        forms: of the residuals.
        constant: log density where they are nought, in nats.
    """

    forms: list[Bilinear]
    constant: float


def _residuals(node: Node, columns: Columns) -> _Residuals | None:
    """Residuals of a normal factor that is linear given the data."""
    if node.condition is not None:
        return None
    forms = bilinear_forms(list(postorder([node.distribution])), columns)
    own = _own(node, columns)
    is_latent = node.name in columns.latents
    match node.distribution:
        case Call(head="normal", arguments=(mean, scale)):
            found, scales = [forms[id(mean)]], forms[id(scale)]
            if scales is None or set(scales) != {(None, None)}:
                return None
            factor = np.array([[scales[None, None]]])
        case Call(head="mvn", arguments=(mean, matrix)) if not free_names(matrix):
            found = _elements(mean, len(own), columns, forms)
            try:
                factor = np.linalg.cholesky(np.array(evaluate(matrix, {}), float))
            except (EvaluationError, ValueError, np.linalg.LinAlgError):
                return None
        case _:
            return None
    if None in found or len(found) != len(own) or not (np.diag(factor) > 0.0).all():
        return None
    inverse = np.linalg.inv(factor)
    differences: list[Bilinear] = []
    for column, form in zip(own, found, strict=True):
        difference = {key: -value for key, value in (form or {}).items()}
        key = (column, None) if is_latent else (None, column)
        difference[key] = difference.get(key, 0.0) + 1.0
        differences.append(difference)
    rows = [_sum(row, differences) for row in inverse.tolist()]
    log_scale = float(np.log(np.diag(factor)).sum())
    return _Residuals(rows, -log_scale - len(own) * HALF_LOG_TWO_PI)


def _elements(
    vector: Expression, size: int, columns: Columns, forms: dict[int, Bilinear | None]
) -> list[Bilinear | None]:
    match vector:
        case Call(head="vector", arguments=arguments):
            return [forms[id(each)] for each in arguments]
        case Reference(name=name):
            return [columns.form(name, place) for place in range(size)]
    return [None]


def _sum(weights: Sequence[float], forms: Sequence[Bilinear]) -> Bilinear:
    total: dict[tuple[int | None, int | None], float] = {}
    for weight, form in zip(weights, forms, strict=True):
        for key, value in form.items():
            total[key] = total.get(key, 0.0) + weight * value
    return {key: value for key, value in total.items() if value}


def _own(node: Node, columns: Columns) -> range:
    """Free columns of a latent, columns of an observed node."""
    if node.name in columns.latents:
        return columns.latents[node.name].free_columns
    return columns.observed[node.name].columns


def _made(
    node: Node, columns: Columns, predictors: Sequence[Bilinear], form: str
) -> Potential:
    """A potential of predictors, its columns in order of mention, its own first."""
    is_latent = node.name in columns.latents
    own = list(_own(node, columns))
    keys = [key for predictor in predictors for key in predictor]
    latents = dict.fromkeys(own if is_latent else [])
    latents.update(dict.fromkeys(z for z, _ in keys if z is not None))
    seen = dict.fromkeys([] if is_latent else own)
    if form:
        above = [p for p in node.parents if p in columns.observed]
        for variable in (columns.observed[name] for name in above):
            seen.update(dict.fromkeys(variable.columns))
    seen.update(dict.fromkeys(x for _, x in keys if x is not None))
    rows, across = [None, *latents], [None, *seen]
    entries = tuple(
        predictor.get(key, 0.0)
        for predictor in predictors
        for key in product(rows, across)
    )
    return Potential(
        latents=tuple(latents),
        observed=tuple(seen),
        predictors=entries,
        own=len(own) if is_latent else 0,
        form=form,
    )

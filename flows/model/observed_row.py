"""This file makes the row of all observed values: the document's, some replaced.

Everything that is wrong with the data is reported together, each with its place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from daphne_bridge.errors import GraphError
from daphne_bridge.graph.graph import Graph

from ..errors import ModelError, Problem
from .capabilities import listed
from .lowered import Lowered, place
from .lowered_graph import LoweredGraph
from .observation import Given, Misfit, encode

__all__ = ["document_problems", "observed_row"]


def observed_row(lowered: LoweredGraph, given: Given) -> list[float]:
    """Return the columns of all observed values.

    Args:
        lowered: The graph as slots.
        given: What replaces the document's data.

    Raises:
        ModelError: If a value does not fit its distribution, or a name is not known or
            that of no observed node.
    """
    given = _together(lowered, given)
    names = _resolved(lowered, given)
    numbers: list[float] = []
    problems: list[Problem] = []
    for entry in lowered.observed:
        name = entry.node.name
        where, value = place(lowered.graph, "Y", name), entry.node.observation
        if name in names:
            value = given.values[names[name]]
            where = given.places.get(names[name], where)
        found = _encoded(lowered, entry, value, where)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            numbers.extend(found)
    if problems:
        raise ModelError(*problems)
    return numbers


def document_problems(lowered: LoweredGraph) -> list[Problem]:
    """Return a problem for every datum of the document that does not fit."""
    found = (
        _encoded(
            lowered,
            entry,
            entry.node.observation,
            place(lowered.graph, "Y", entry.node.name),
        )
        for entry in lowered.observed
    )
    return [problem for problem in found if isinstance(problem, Problem)]


def _encoded(
    lowered: LoweredGraph, entry: Lowered, value: Any, where: str
) -> tuple[float, ...] | Problem:
    try:
        return encode(entry, value, lowered.dag)
    except Misfit as problem:
        what, expected, got = problem.args
        node = entry.node
        label = "" if node.label == node.name else f" ({node.label})"
        return Problem(where, f"{what}{label}", expected, got)


def _together(lowered: LoweredGraph, given: Given) -> Given:
    """Return data in which the entries of a vector, `y[0]` and `y[1]`, are one value.

    Raises:
        ModelError: If some of its entries are left out.
    """
    values, places = dict(given.values), dict(given.places)
    for variable in lowered.layout.observed:
        entries = [name for name in variable.column_names if name in values]
        if not variable.shape or not entries:
            continue
        where = places.get(entries[0], lowered.graph.source)
        whole = [n for n in (variable.label, variable.name) if n in values]
        if whole:
            what = f"{whole[0]} and {entries[0]} are one node, observed twice"
            raise ModelError.at(where, what, "a value, or its entries")
        missing = [name for name in variable.column_names if name not in values]
        if missing:
            what = f"{listed(missing)} of {variable.label} left out"
            raise ModelError.at(where, what, "all entries of a value, or none")
        numbers = np.empty(variable.size, dtype=object)
        numbers[:] = [values.pop(name) for name in entries]
        values[variable.name] = numbers.reshape(variable.shape).tolist()
        places[variable.name] = where
    return Given(values, places)


def _resolved(lowered: LoweredGraph, given: Given) -> Mapping[str, str]:
    """Return the name that was used for each node that has new data."""
    graph = lowered.graph
    used: dict[str, str] = {}
    for name in given.values:
        where = given.places.get(name, graph.source)
        try:
            known = graph.resolve(name)
        except GraphError as error:
            wrong = [each.what for each in error.problems]
            raise ModelError.at(
                where, "; ".join(wrong), _observed_nodes(graph)
            ) from None
        if not graph.node(known).is_observed:
            raise ModelError.at(where, f"{name} is a latent", _observed_nodes(graph))
        if known in used:
            what = f"{used[known]} and {name} are one node, observed twice"
            raise ModelError.at(where, what, "one value for each node")
        used[known] = name
    return used


def _observed_nodes(graph: Graph) -> str:
    """Return what a name of data should be, under both names where there are two."""
    nodes = [graph.node(name) for name in graph.observed]
    names = [n.name if n.label == n.name else f"{n.name} ({n.label})" for n in nodes]
    return (
        f"an observed node: {listed(names)}"
        if names
        else "no data: no node is observed"
    )

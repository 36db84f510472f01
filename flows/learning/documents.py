"""This file makes documents in which some latents are data, stand alone, or are known.

A document's terms stay as they are written: a node's name is what stands for its value,
so that a constant in its place is the node held fixed.
"""

from collections.abc import Collection, Mapping
from typing import Any

from daphne_bridge.graph.document import GraphDocument

__all__ = ["observing", "only", "with_constants"]

Values = Mapping[str, Any]
"""A number, or nested lists of them, by name of a node."""


def observing(document: GraphDocument, values: Values) -> GraphDocument:
    """Return the document in which some latents are observed.

    Args:
        document: Of the model.
        values: What is observed, by name of a latent.
    """
    links = {
        name: ["observe*", link[1], _term(values[name])] if name in values else link
        for name, link in document.link_functions.items()
    }
    data = {**document.observations, **values}
    return _with(document, document.vertices, links, data, document.result)


def only(document: GraphDocument, names: Collection[str]) -> GraphDocument:
    """Return the document of some latents alone, which read no others."""
    kept = tuple(name for name in document.vertices if name in names)
    links = {name: document.link_functions[name] for name in kept}
    return _with(document, kept, links, {}, ["vector", *kept])


def with_constants(document: GraphDocument, values: Values) -> GraphDocument:
    """Return the document with constants in place of some latents.

    Args:
        document: Of the model.
        values: What each of them is, by name of a latent.
    """
    terms = {name: _term(value) for name, value in values.items()}
    kept = tuple(name for name in document.vertices if name not in values)
    links = {name: _put(document.link_functions[name], terms) for name in kept}
    functions = {
        name: [*made[:2], *(_put(part, terms) for part in made[2:])]
        for name, made in document.functions.items()
    }
    result = _put(document.result, terms)
    return _with(document, kept, links, document.observations, result, functions)


def _with(
    document: GraphDocument,
    vertices: tuple[str, ...],
    links: Mapping[str, Any],
    data: Values,
    result: Any,
    functions: Mapping[str, Any] | None = None,
) -> GraphDocument:
    arcs = {
        name: kept
        for name in vertices
        if (kept := [c for c in document.arcs.get(name, ()) if c in vertices])
    }
    return GraphDocument(
        document.functions if functions is None else functions,
        vertices,
        arcs,
        links,
        data,
        result,
        document.source,
    )


def _term(value: Any) -> Any:
    """Return the term of a number, or of nested lists of them."""
    return ["vector", *map(_term, value)] if isinstance(value, list) else value


def _put(term: Any, terms: Values) -> Any:
    """Return a term with others in place of some names."""
    if isinstance(term, list):
        return [_put(part, terms) for part in term]
    return terms.get(term, term) if isinstance(term, str) else term

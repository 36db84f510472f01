"""This file says what the numbers of a node stand for: kind, categories, text.

A boolean is 0 or 1, a category its position among the values of a `categorical`.
"""

from collections.abc import Sequence
from typing import Any

from daphne_bridge.graph.expression import show_value

from .model import Model

__all__ = ["kind_of", "text_of"]


def kind_of(model: Model, name: str) -> tuple[str, tuple[Any, ...]]:
    """Return the kind of a node's values, and what its positions stand for.

    Args:
        model: The model.
        name: Of a latent or an observed node.

    Returns:
        boolean, integer, category or real; and the categories, if there are any.
    """
    categories = model.categories(name)
    if categories:
        return "category", categories
    node = model.graph.node(name)
    if not node.is_discrete:
        return "real", ()
    families = {family.name for family in node.families}
    return ("boolean" if families == {"flip"} else "integer"), ()


def text_of(value: float, kind: str, categories: Sequence[Any]) -> str:
    """Return a discrete value as a program writes it.

    Example:
        >>> text_of(1.0, "boolean", ()), text_of(1.0, "category", ["a", "b"])
        ('true', '"b"')
    """
    if categories:
        return show_value(categories[int(value)])
    if kind == "boolean":
        return "true" if value else "false"
    return str(int(value)) if value == int(value) else f"{value:g}"

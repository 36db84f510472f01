"""This file lays the natural values of latents side by side, as particles hold them."""

import math
from collections.abc import Iterable

from ..model.layout import Layout, Variable

__all__ = ["columns_of", "latent_columns"]


def latent_columns(layout: Layout) -> tuple[Variable, ...]:
    """Return the columns of each latent's natural values, in the layout's order.

    Example:
        >>> layout = Layout((Variable("sample0", "w", (2,), 0, 2, 0, 2),), ())
        >>> latent_columns(layout)[0].column_names
        ('w[0]', 'w[1]')
    """
    return columns_of((each.name, each.label, each.shape) for each in layout.latents)


def columns_of(
    latents: Iterable[tuple[str, str, tuple[int, ...]]],
) -> tuple[Variable, ...]:
    """Return the columns of latents given as document's name, own name and shape."""
    columns: list[Variable] = []
    start = 0
    for name, label, shape in latents:
        stop = start + math.prod(shape)
        columns.append(Variable(name, label, shape, start, stop))
        start = stop
    return tuple(columns)

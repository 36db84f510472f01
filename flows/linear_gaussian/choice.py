"""This file chooses whether linear Gaussian latents are integrated out."""

from ..model.model import Model
from .factors import gaussian_latents
from .part import part_of
from .target import GaussianMarginal

__all__ = ["gaussian_marginal"]

_LEAST = 8
_LEAST_SHARE = 0.5
"""Of the free coordinates."""


def gaussian_marginal(model: Model) -> GaussianMarginal | None:
    """Return a model without its linear Gaussian latents; None where that pays little.

    That is where they are few, or a small share of all, or depend on each other too
    widely; and where there are no others.

    Args:
        model: Any model.
    """
    layout = model.layout
    if any(variable.is_discrete for variable in layout.latents):
        return None
    names = gaussian_latents(model.lowered)
    num = len(names)
    if num < max(_LEAST, _LEAST_SHARE * layout.free_dim) or num == len(layout.latents):
        return None
    whole = part_of(model.lowered, [n.name for n in model.graph.nodes], names)
    return None if whole is None else GaussianMarginal(model, whole)

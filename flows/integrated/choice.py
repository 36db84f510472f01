"""This file chooses what a flow is trained on: a model, or its integrated version.

Latents are integrated out where they are no small part of the model, unless the affine
layer of a flow is the posterior already (`linearity.py`).
"""

from ..model.model import Model
from .conditionals import latents_to_integrate
from .linearity import is_linear_normal
from .target import IntegratedModel

__all__ = ["integrated_where_it_pays"]

_LEAST_SHARE = 0.25
"""Of the latents' free coordinates."""


def integrated_where_it_pays(model: Model) -> Model | IntegratedModel:
    """Return the model of continuous latents, integrated if that is better."""
    names = latents_to_integrate(model.graph, model.layout)
    is_much = len(names) >= _LEAST_SHARE * model.layout.free_dim
    if not names or not is_much or is_linear_normal(model.graph):
        return model
    return IntegratedModel(model, names)

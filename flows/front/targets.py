"""This file says what `infer` draws from: a model, what can be integrated out left out.

Discrete latents are summed out; where all are continuous, those that are linear and
Gaussian given the others are integrated out. Both are drawn at the end.
"""

from ..linear_gaussian.choice import gaussian_marginal
from ..linear_gaussian.target import GaussianMarginal
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import FlowTarget, target_of
from ..model.model import Model

__all__ = ["Target", "reduced", "work"]

_ENTRY = 16
"""Operations for each entry of a precision: it is added to, eliminated and read."""

Target = FlowTarget | GaussianMarginal


def reduced(model: Model, *, widen: int = 1) -> Target:
    """Return what is drawn from to answer for one data set.

    Without data nothing is summed out, unless all can be.

    Args:
        model: Any model.
        widen: Factor on the cuts of infinite supports.

    Raises:
        ModelError: If the discrete latents can be neither summed out nor sampled.
    """
    found = target_of(model, widen=widen, may_sample=True)
    if isinstance(found, CollapsedModel):
        if model.layout.observed or not found.layout.latents:
            return found
        # Draws need no sums.
        discrete = tuple(v.name for v in model.layout.latents if v.is_discrete)
        return target_of(model, sampled=discrete)
    if not model.layout.observed:
        return model
    return gaussian_marginal(model) or model


def work(target: Target) -> int:
    """Return about how many operations on numbers the density of a row costs."""
    if isinstance(target, Model):
        return len(target.lowered.dag)
    found = len(target.model.lowered.dag)
    if isinstance(target, GaussianMarginal):
        found += _ENTRY * target.whole.num_entries
    return found

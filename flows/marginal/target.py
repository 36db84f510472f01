"""This file says what a flow is of: the model, its discrete latents summed out."""

from ..model.model import Model
from .collapsed import CollapsedModel, collapse

__all__ = ["target_of"]


def target_of(
    model: Model,
    *,
    widen: int = 1,
    may_sample: bool = False,
    sampled: tuple[str, ...] = (),
) -> Model | CollapsedModel:
    """Return the model, collapsed if it has discrete latents.

    Args:
        model: Any model.
        widen: Factor on the cuts of infinite supports; see `collapse`.
        may_sample: Whether latents that cannot be summed out may stay; see `collapse`.
        sampled: Names of discrete latents that stay in any case; see `collapse`.

    Raises:
        ModelError: If they cannot be summed out.
    """
    has_discrete = any(variable.is_discrete for variable in model.layout.latents)
    if not has_discrete:
        return model
    return collapse(model, widen=widen, may_sample=may_sample, sampled=sampled)

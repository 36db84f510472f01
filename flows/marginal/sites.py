"""This file says which free coordinates of a target are counted, for moves of SMC."""

from ..inference.smc.sites import Site
from ..model.model import Model
from .collapsed import CollapsedModel

__all__ = ["sites_of"]

_FEW = 16
"""Up to so many values each is proposed as often as any other."""


def sites_of(target: Model | CollapsedModel) -> tuple[Site, ...]:
    """Return the coordinates of the sampled latents; none if there is none."""
    if not isinstance(target, CollapsedModel):
        return ()
    found = []
    for name in target.sampled:
        number = _num_values(target.model, name)
        column = target.layout.variable(name).free_start
        found.append(Site(column, number if number <= _FEW else 0))
    return tuple(found)


def _num_values(model: Model, name: str) -> int:
    """Return the number of a latent's values 0, 1, ...; 0 where others are possible."""
    node = model.lowered.nodes[name]
    numbers = [
        len(node.categories)
        or {"flip": 2, "bernoulli": 2}.get(branch.family, 0)
        or (branch.shapes[0][0] if branch.family == "discrete" else 0)
        for branch in node.branches
    ]
    return max(numbers) if all(numbers) else 0

"""This file says which free coordinates of a target are counted, for moves of SMC.

Where one latent changes, so do the tables that read it, and those that share a variable
to be summed out with them, directly or through others; nothing else is computed.
"""

from collections.abc import Callable

import torch

from ..inference.shapes import Latents, LogProb
from ..inference.smc.sites import Site
from ..model.model import Model
from ..model.shapes import ObservedRow
from .collapsed import CollapsedModel
from .order import connected

__all__ = ["sites_of"]

_FEW = 16
"""Up to so many values each is proposed as often as any other."""


def sites_of(target: CollapsedModel, observed: ObservedRow) -> tuple[Site, ...]:
    """Return the coordinates of the sampled latents; none if there is none."""
    found = []
    for name in target.sampled:
        number = _num_values(target.model, name)
        variable = target.layout.variable(name)
        found.append(
            Site(
                variable.free_start,
                variable.start,
                number if number <= _FEW else 0,
                _change(target, name, observed),
            )
        )
    return tuple(found)


def _change(
    target: CollapsedModel, name: str, observed: ObservedRow
) -> Callable[[Latents, Latents], tuple[LogProb, LogProb]] | None:
    """Return what computes the changes of log prior and log likelihood.

    None where half of all tables change: to compute all of them once is then cheaper
    than these before and after.
    """
    affected = _affected(target, name)
    if 2 * len(affected) > len(target.tables.tables):
        return None
    whole = target.part(affected)
    prior = target.part(sorted({*affected} & {*target.prior_tables}))

    def change(before: Latents, after: Latents) -> tuple[LogProb, LogProb]:
        rows = torch.cat([before, after])
        old, new = target.log_sum(whole, rows, observed).chunk(2)
        old_prior, new_prior = target.log_sum(
            prior, rows, observed, without_meaning=0.0
        ).chunk(2)
        return new_prior - old_prior, (new - new_prior) - (old - old_prior)

    return change


def _affected(target: CollapsedModel, name: str) -> list[int]:
    """Return the numbers of the tables whose sum a latent's value changes."""
    groups = connected([table.scope for table in target.tables.tables])
    readers = {name, *target.graph.children(name)}
    nodes = zip(target.graph.nodes, groups, strict=False)
    reached = {group for node, group in nodes if node.name in readers}
    return [number for number, group in enumerate(groups) if group in reached]


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

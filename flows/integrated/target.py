r"""This file is a model with the latents that need no network integrated out.

    log p(c, x) = Σ over factors that are left + Σ_i log ∫ factors of z_i dz_i,

with c the kept latents and each integral exact where the conditional is normal
(`normal.py`, or `linked.py` where latents are in each other's), else taken on a grid
(`grid.py`), which is wrong by some thousandths of a nat. A flow is trained on it, and
its weights are those of the full model (`flow.py`). What no other latent reads
integrates to one.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Generator

from ..model.around import AroundModel
from ..model.draws import Draws
from ..model.layout import Layout
from ..model.model import Model
from ..model.shapes import Free, Latents, LogDensity, LogDet, Observed
from ..model.some_latents import SomeLatents
from .conditionals import Conditional, conditionals_of, linked_ones
from .level import Level
from .linearity import normal_ones
from .lines import lines_of
from .linked import Linked

__all__ = ["IntegratedModel"]


@dataclass(frozen=True, eq=False)
class IntegratedModel(AroundModel):
    """The density p(kept latents, observed), as training needs it.

    Attributes:
        model: The model, of continuous latents.
        integrated: Names of the latents that are integrated out, in sampling order.
    """

    model: Model
    integrated: tuple[str, ...]

    def __post_init__(self) -> None:
        """Put the names in order.

        Raises:
            ArgumentError: If not all of these can be integrated out.
        """
        names = tuple(each.name for each in self.conditionals)
        object.__setattr__(self, "integrated", names)

    def forgiving(self) -> "IntegratedModel":
        """Return it of the forgiving model; see `Model.forgiving`."""
        return replace(self, model=self.model.forgiving())

    @cached_property
    def kept(self) -> SomeLatents:
        """The latents that are kept, and their free coordinates."""
        return SomeLatents(self.model, self.integrated)

    @property
    def layout(self) -> Layout:
        """Columns of the kept latents, and of the observed nodes."""
        return self.kept.layout

    @cached_property
    def conditionals(self) -> tuple[Conditional, ...]:
        """Of the latents that are integrated out, each given those before it."""
        linked = () if self._linked is None else self._linked.conditionals
        return (*linked, *self._alone)

    @cached_property
    def _alone(self) -> tuple[Conditional, ...]:
        gone = set() if self._linked is None else {*self._linked.part.latents}
        return tuple(each for each in self._given_others if each.name not in gone)

    @cached_property
    def _linked(self) -> Linked | None:
        linked = linked_ones(self._given_others)
        return Linked(self.model, linked) if linked else None

    @cached_property
    def _given_others(self) -> tuple[Conditional, ...]:
        return conditionals_of(self.graph, self.model.layout, self.integrated)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """All of them: integrals, then what reads earlier levels alone."""
        groups: list[list[Conditional]] = [[]]
        number: dict[str, int] = {}
        for each in self._alone:
            before = [number[name] for name in each.latents if name in number]
            level = 1 + max(before, default=0) if each.is_prior else 0
            number[each.name] = level
            groups += [[] for _ in range(level + 1 - len(groups))]
            groups[level].append(each)
        normals = normal_ones(self.graph, self._alone)
        linked = () if self._linked is None else (self._linked,)
        lines = [each for g in groups for each in lines_of(self.model, g, normals)]
        return (*linked, *lines)

    @cached_property
    def _integrals(self) -> tuple[Level, ...]:
        return tuple(each for each in self.levels if not each.conditionals[0].is_prior)

    def sample(self, num: int, *, generator: Generator) -> Draws:
        """Return joint draws of the kept latents and the observed nodes."""
        draws = self.model.sample(num, generator=generator)
        return Draws(draws.latents[:, self.kept.columns], draws.observed)

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|."""
        return self.kept.unconstrain(latents)

    def log_joint(self, latents: Latents, observed: Observed, /) -> LogDensity:
        """Return log p(kept latents, observed), in nats."""
        free, log_det = self.unconstrain(latents)
        return self.log_joint_free(free, observed) - log_det

    def log_joint_free(self, free: Free, observed: Observed) -> LogDensity:
        """Return the same density of the free coordinates."""
        batch = np.broadcast_shapes(free.shape[:-1], observed.shape[:-1])
        if not math.prod(batch):
            return free.sum(-1).expand(batch)
        rows, data = (
            each.expand(*batch, -1).reshape(math.prod(batch), each.shape[-1])
            for each in (free, observed)
        )
        whole = self.kept.filled_free(rows)
        natural, _ = self.model.constrain(whole)
        terms = self.model.log_terms_of(self._left, natural, data)
        found = terms.sum(-1) + self.kept.log_det(rows)
        for level in self._integrals:
            found = found + level.log_integral(whole, data).to(found)
        return found.reshape(batch)

    @cached_property
    def _left(self) -> tuple[str, ...]:
        """Names of the nodes whose factors no integral holds."""
        gone = {f for each in self.conditionals for f in each.factors}
        return tuple(node.name for node in self.graph.nodes if node.name not in gone)

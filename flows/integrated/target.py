r"""This file is a model with the latents that need no network integrated out.

    log p(c, x) = Σ over factors that are left + Σ_i log ∫ factors of z_i dz_i,

with c the kept latents and each integral taken on a grid (`grid.py`), which is wrong by
some thousandths of a nat. A flow is trained on it, and its weights are those of the
full model (`flow.py`). What no other latent reads integrates to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from ..model.around import AroundModel
from ..model.draws import Draws
from ..model.layout import Layout
from ..model.model import Model
from ..model.shapes import Free, Latents, LogDensity, LogDet, Observed
from .conditionals import Conditional, conditionals_of
from .lines import Lines

__all__ = ["IntegratedModel", "kept_layout"]


def kept_layout(layout: Layout, integrated: Sequence[str]) -> Layout:
    """Return the columns of the latents that are not integrated out."""
    return layout.keeping(
        {v.name: v.free_size for v in layout.latents if v.name not in integrated}
    )


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
        names = tuple(each.name for each in self.conditionals)
        object.__setattr__(self, "integrated", names)

    def forgiving(self) -> "IntegratedModel":
        """Return it of the forgiving model; see `Model.forgiving`."""
        return replace(self, model=self.model.forgiving())

    @cached_property
    def layout(self) -> Layout:
        """Columns of the kept latents, and of the observed nodes."""
        return kept_layout(self.model.layout, self.integrated)

    @cached_property
    def conditionals(self) -> tuple[Conditional, ...]:
        """Of the latents that are integrated out."""
        return conditionals_of(self.graph, self.model.layout, self.integrated)

    @cached_property
    def levels(self) -> tuple[Lines, ...]:
        """Conditionals in groups: integrals, then what reads earlier groups alone."""
        groups: list[list[Conditional]] = [[]]
        number: dict[str, int] = {}
        for each in self.conditionals:
            before = [number[name] for name in each.latents if name in number]
            level = 1 + max(before, default=0) if each.is_prior else 0
            number[each.name] = level
            groups += [[] for _ in range(level + 1 - len(groups))]
            groups[level].append(each)
        return tuple(Lines(self.model, group) for group in groups if group)

    @property
    def _lines(self) -> Lines | None:
        """The integrals, if there are any."""
        first = self.levels[0]
        return None if first.conditionals[0].is_prior else first

    def sample(self, num: int, *, generator: Generator) -> Draws:
        """Return joint draws of the kept latents and the observed nodes."""
        draws = self.model.sample(num, generator=generator)
        return Draws(draws.latents[:, self.kept[0]], draws.observed)

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|."""
        natural, free_columns = self.kept
        whole = latents.new_full(
            (*latents.shape[:-1], self.model.layout.latent_dim), torch.nan
        )
        whole[..., natural] = latents
        free = self.model.unconstrain(whole)[0][..., free_columns]
        return free, self._log_det(self.whole(free))

    def log_joint(self, latents: Latents, observed: Observed, /) -> LogDensity:
        """Return log p(kept latents, observed), in nats."""
        free, log_det = self.unconstrain(latents)
        return self.log_joint_free(free, observed) - log_det

    def log_joint_free(self, free: Free, observed: Observed) -> LogDensity:
        """Return the same density of the free coordinates."""
        rows = free.reshape(-1, free.shape[-1])
        data = observed.expand(*free.shape[:-1], -1).reshape(len(rows), -1)
        whole = self.whole(rows)
        natural, _ = self.model.constrain(whole)
        terms = self.model.log_terms_of(self._left, natural, data)
        found = terms.sum(-1) + self._log_det(whole)
        if self._lines is not None:
            found = found + self._lines.grids(whole, data).log_integral().sum(-1)
        return found.reshape(free.shape[:-1])

    def whole(self, free: Free) -> Tensor:
        """Return free coordinates of all latents, 0 where integrated out."""
        found = free.new_zeros(*free.shape[:-1], self.model.layout.free_dim)
        return found.index_copy(-1, self.kept[1], free)

    def _log_det(self, whole: Tensor) -> LogDet:
        terms = self.model.constrain_terms(whole)
        return terms[..., self._kept_positions].sum(-1)

    @cached_property
    def _left(self) -> tuple[str, ...]:
        """Names of the nodes whose factors no integral holds."""
        gone = {f for each in self.conditionals for f in each.factors}
        return tuple(node.name for node in self.graph.nodes if node.name not in gone)

    @cached_property
    def _kept_positions(self) -> list[int]:
        names = enumerate(v.name for v in self.model.layout.latents)
        return [place for place, name in names if name not in self.integrated]

    @cached_property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Columns of the kept latents among all: natural, and free."""
        own = [v for v in self.model.layout.latents if v.name not in self.integrated]
        return (
            torch.tensor([c for v in own for c in v.columns]),
            torch.tensor([c for v in own for c in v.free_columns]),
        )

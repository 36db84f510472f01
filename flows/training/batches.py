"""This file draws what losses are computed on: joint draws of a target, base points.

Latents are in free coordinates. Every row serves both directions (`losses.py`).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..flow.protocol import Flow
from ..flow.shapes import Base, Free, LogProb, Nuisance, Observed
from ..model.draws import Draws
from ..model.standard_normal import standard_normal_log_prob

__all__ = ["AroundTarget", "Batch", "Judged", "TargetModel", "draw_batch"]


class TargetModel(Protocol):
    """What the losses need of a model."""

    @property
    def has_density(self) -> bool:
        """Whether `log_joint` can be computed; else only draws are there."""

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Joint draws."""

    def log_joint(self, latents: Tensor, observed: Tensor, /) -> Tensor:
        """Log joint density of natural values, in nats."""

    def log_joint_free(self, free: Tensor, observed: Tensor) -> Tensor:
        """Log joint density in free coordinates, in nats."""

    def unconstrain(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Free coordinates, with log|det|."""


@runtime_checkable
class Forgiving(Protocol):
    """A model that can take values without meaning for impossible ones."""

    def forgiving(self) -> TargetModel:
        """Return the model in which they have density 0 and are no error."""


class AroundTarget:
    """A target that is another one but for what a subclass changes.

    Attributes:
        model: The other one.
    """

    __slots__ = ()
    model: TargetModel

    @property
    def has_density(self) -> bool:
        """Whether `log_joint` can be computed; else only draws are there."""
        return self.model.has_density

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Joint draws."""
        return self.model.sample(num, generator=generator)

    def log_joint(self, latents: Tensor, observed: Tensor, /) -> Tensor:
        """Log joint density of natural values, in nats."""
        return self.model.log_joint(latents, observed)

    def log_joint_free(self, free: Tensor, observed: Tensor) -> Tensor:
        """Log joint density in free coordinates, in nats."""
        return self.model.log_joint_free(free, observed)

    def unconstrain(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Free coordinates, with log|det|."""
        return self.model.unconstrain(latents)


@dataclass(frozen=True, slots=True, eq=False)
class Judged(AroundTarget):
    """A model for training: a flow may draw what has no meaning, the model may not.

    Attributes:
        model: Drawn from.
        judge: Its density is that of what a flow draws.
    """

    model: TargetModel
    judge: TargetModel

    @classmethod
    def of(cls, model: TargetModel) -> "Judged":
        """Return a model with itself as the judge, forgiving if it can be."""
        return cls(model, model.forgiving() if isinstance(model, Forgiving) else model)

    def log_joint_free(self, free: Tensor, observed: Tensor) -> Tensor:
        """Log joint density in free coordinates, in nats; -inf without a meaning."""
        return self.judge.log_joint_free(free, observed)


@dataclass(frozen=True, slots=True)
class Batch:
    """Joint draws for the forward direction, and base points for the reverse one.

    Args:
        free: latents of joint draws, in free coordinates.
        nuisances: standard normal nuisance columns.
        observed: observed values of the same draws, used in both directions.
        log_joint: log p(free, observed) + log N(nuisances), in nats; without a density
            the second alone.
        base: standard normal base points.
    """

    free: Free
    nuisances: Nuisance
    observed: Observed
    log_joint: LogProb
    base: Base

    def rows(self, start: int, stop: int) -> "Batch":
        """Some of the rows."""
        return Batch(
            free=self.free[start:stop],
            nuisances=self.nuisances[start:stop],
            observed=self.observed[start:stop],
            log_joint=self.log_joint[start:stop],
            base=self.base[start:stop],
        )


def draw_batch(
    model: TargetModel,
    flow: Flow,
    num: int,
    *,
    generator: torch.Generator,
    scored: bool = True,
) -> Batch:
    """A fresh batch of ``num`` rows for each direction.

    Args:
        model: the target.
        flow: whose precision and nuisances it has.
        num: rows.
        generator: source of all draws.
        scored: whether `Batch.log_joint` has the model's part.
    """
    draws = model.sample(num, generator=generator)
    free, log_det = model.unconstrain(draws.latents)
    nuisances = torch.randn(
        num,
        flow.structure.nuisance_dim,
        generator=generator,
        dtype=flow.dtype,
        device=generator.device,
    ).to(flow.device)
    log_joint = standard_normal_log_prob(nuisances)
    if model.has_density and scored:
        with torch.no_grad():
            joint = model.log_joint(draws.latents, draws.observed) + log_det
        log_joint = log_joint + joint.to(flow.device)
    return Batch(
        free=free.to(flow.device, flow.dtype),
        nuisances=nuisances,
        observed=draws.observed.to(flow.device, flow.dtype),
        log_joint=log_joint,
        base=flow.sample_base(num, generator=generator),
    )

"""This file is what flows share that normalise columns and push forward a base.

A kind derives from `NormalisedFlow` and adds `from_base`, `log_prob_per_node` and how
the remaining latents are drawn; one that maps all columns at once derives from
`ResidualFlow`, which has the last of them. `WarmedForward` is the warm start of a kind
whose density costs little.
"""

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from .factor_normalisation import FactorNormalisation
from .normalisation import Normalisation
from .protocol import FlowDraw, Known
from .scaling import AffineMap, Scaling
from .shapes import Base, Free, LogProb, LogProbPerNode, Nuisance, Observed, Row
from .state_columns import StateColumns
from .structure import Structure

__all__ = [
    "NormalisedFlow",
    "ResidualFlow",
    "WarmedForward",
    "normalisation_lengths",
]


def normalisation_lengths(structure: Structure) -> dict[str, int]:
    """Lengths of the normalisation's tensors in a flow's state, see `kinds.Kind`."""
    found = {
        "normalisation.shift": structure.state_dim,
        "normalisation.observed_shift": structure.observed_dim,
    }
    if structure.factors:
        found["normalisation.factor_coefficients"] = sum(
            (1 + len(factor.latents)) * (1 + len(factor.observed))
            for factor in structure.factors
        )
    return found


class NormalisedFlow(nn.Module, ABC):
    """Most of `protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: what the kind is built with.
        everywhere: see `Normalisation`.
        log_beyond: see `Scaling`.
        normalisation: the layer; one of the structure's if None.
    """

    def __init__(
        self,
        structure: Structure,
        config: Any,
        *,
        everywhere: bool = False,
        log_beyond: float = 0.0,
        normalisation: Scaling | None = None,
    ) -> None:
        super().__init__()
        self.structure = structure
        self.config = config
        if normalisation is None and structure.factors:
            normalisation = FactorNormalisation(structure)
        self.normalisation: Scaling = normalisation or Normalisation(
            structure, everywhere=everywhere, log_beyond=log_beyond
        )
        self.columns = StateColumns(structure)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its densities."""
        return self.normalisation.shift.dtype

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.normalisation.shift.device

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits the normalisation to joint draws."""
        self.normalisation.fit(free, observed)

    def sample_base(self, num: int, *, generator: Generator | None = None) -> Base:
        """Standard normal base points, in the flow's precision and on its device."""
        like = self.normalisation.shift
        return self.columns.sample_base(num, like, generator=generator)

    def rsample_and_log_prob(
        self, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """One draw per row with its log density; carries gradients."""
        base = self.sample_base(observed.shape[0], generator=generator)
        return self.from_base(base, observed)

    @abstractmethod
    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""

    def log_prob(self, free: Free, nuisances: Nuisance, observed: Observed) -> LogProb:
        """Log densities log q(free, nuisances | observed), in nats."""
        return self.log_prob_per_node(free, nuisances, observed).sum(-1)

    @abstractmethod
    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""

    def rsample_remaining(
        self, known: Known, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """Draws of all other latents given some; see `protocol.Flow`."""
        is_given = self.columns.of_nodes(known.nodes)
        fresh = self.sample_base(len(observed), generator=generator)
        return self._completed(
            self._join(known.free, known.nuisances), is_given, fresh, observed
        )

    @abstractmethod
    def _completed(
        self, state: Tensor, is_given: Tensor, fresh: Tensor, observed: Tensor
    ) -> FlowDraw:
        """States whose given columns stay, the others drawn from fresh base points."""

    def _join(self, free: Tensor, nuisances: Tensor) -> Tensor:
        """State columns of latents and nuisances, in the flow's precision."""
        return self.columns.join(free, nuisances).to(self.dtype)


class WarmedForward(NormalisedFlow):
    """A flow whose warm start is the forward KL itself."""

    def matching_terms(
        self,
        free: Free,
        nuisances: Nuisance,
        observed: Observed,
        base: Base,  # noqa: ARG002
        time: Row,  # noqa: ARG002
    ) -> Row:
        """Terms of the warm start: of the forward KL, without the model's constant."""
        return -self._warmed().log_prob(free, nuisances, observed)

    def _warmed(self) -> Self:
        """The flow, or a view that is better where a mean is differentiated."""
        return self


class ResidualFlow(NormalisedFlow):
    """A flow between its base and residual coordinates (`scaling.py`)."""

    @abstractmethod
    def residual_to_base(
        self, residual: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Base points of residual coordinates, with log|det| per node.

        Args:
            residual: residual coordinates.
            given: normalised observed values.
        """

    @abstractmethod
    def base_to_residual(
        self, base: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Residual coordinates of base points, with log|det| per node."""

    def _completed(
        self, state: Tensor, is_given: Tensor, fresh: Tensor, observed: Tensor
    ) -> FlowDraw:
        known, affine = self._affine(observed)
        state = torch.where(is_given, state, affine.shift)
        start = torch.where(is_given, affine.to_residual(state), 0.0)
        ends, _ = self.residual_to_base(start, known)
        base = torch.where(is_given, ends, fresh)
        moved, log_det = self.base_to_residual(base, known)
        drawn = torch.where(is_given, state, affine.from_residual(moved))
        terms = self.columns.base_log_prob(base) - log_det + affine.log_det
        return FlowDraw(*self.columns.split(drawn), terms)

    def _affine(self, observed: Tensor) -> tuple[Tensor, AffineMap]:
        """Normalised observed values, and the affine layer given them."""
        given = self.normalisation.normalise_observed(observed)
        return given, self.normalisation.affine(given)

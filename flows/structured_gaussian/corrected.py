r"""This file is a structured Gaussian that a flow of another kind corrects.

The structured Gaussian whitens the latents, r = T(z; x) with N(r; 0, I) its density;
the other flow is of r, along the same inverse,

    log q(z | x) = log q'(r | x) + log|det dr/dz|,

so that where factors are exact there is nothing left to learn, and elsewhere the flow
begins with residuals that are nearly normal. Both are trained together.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from ..flow.kinds import kind_of
from ..flow.normalised_flow import NormalisedFlow
from ..flow.protocol import Drawn, FlowDraw
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed, Row
from ..flow.structure import Structure
from .flow import StructuredGaussianConfig, potentials_with
from .scaling import PotentialMap, PotentialScaling

__all__ = ["CorrectedFlow", "inner_structure"]


def inner_structure(structure: Structure) -> Structure:
    """The structure of the flow of residuals."""
    return replace(structure, potentials=())


class CorrectedFlow(NormalisedFlow):
    """See `flow.protocol.Flow`.

    Args:
        structure: blocks and edges, with potentials.
        config: whose `corrected_by` is a kind of flow.
        seed: of the first weights.
    """

    kind = "structured-gaussian"
    is_exact = True
    config: StructuredGaussianConfig

    def __init__(
        self, structure: Structure, config: StructuredGaussianConfig, seed: int
    ) -> None:
        layer = potentials_with(structure, config, seed)
        super().__init__(structure, config, normalisation=layer)
        other = kind_of(config.corrected_by)
        inner = other.build(inner_structure(structure), other.config(), seed)
        assert isinstance(inner, NormalisedFlow)  # noqa: S101 (those that may correct)
        self.inner = inner

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits the layer to joint draws, then the flow's to their residuals."""
        super().fit_normalisation(free, observed)
        rows = observed.to(self.dtype)
        nothing = free.new_zeros(len(free), self.structure.nuisance_dim)
        with torch.no_grad():
            residual = self._map(rows).to_residual(self._join(free, nothing))
        self.inner.fit_normalisation(self.columns.split(residual)[0], observed)

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        given = self._map(observed)
        residual = given.to_residual(self._join(free, nuisances))
        parts = self.columns.split(residual)
        return self.inner.log_prob_per_node(*parts, observed) + given.log_det

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        return self._back(self.inner.from_base(base, observed), self._map(observed))

    @torch.no_grad()
    def drawn(self, base: Base, observed: Observed) -> tuple[Free, Nuisance]:
        """Draws from base points, faster than `from_base` where the flow can."""
        if not isinstance(self.inner, Drawn):
            draw = self.from_base(base, observed)
            return draw.free, draw.nuisances
        residual = self.columns.join(*self.inner.drawn(base, observed))
        free, nuisances = self.columns.split(
            self._map(observed).from_residual(residual)
        )
        return free, nuisances

    def matching_terms(
        self,
        free: Free,
        nuisances: Nuisance,
        observed: Observed,
        base: Base,  # noqa: ARG002
        time: Row,  # noqa: ARG002
    ) -> Row:
        """Terms of the warm start: of the forward KL, without the model's constant."""
        return -self.log_prob(free, nuisances, observed)

    def _completed(
        self, state: Tensor, is_given: Tensor, fresh: Tensor, observed: Tensor
    ) -> FlowDraw:
        given = self._map(observed)
        residual = given.to_residual(torch.where(is_given, state, 0.0))
        draw = self.inner._completed(residual, is_given, fresh, observed)
        return self._back(draw, given)

    def _back(self, draw: FlowDraw, given: PotentialMap) -> FlowDraw:
        """Latents of residuals."""
        residual = self.columns.join(draw.free, draw.nuisances)
        free, nuisances = self.columns.split(given.from_residual(residual))
        return FlowDraw(free, nuisances, draw.log_prob_per_node + given.log_det)

    def _map(self, observed: Tensor) -> PotentialMap:
        layer = cast("PotentialScaling", self.normalisation)
        return layer.affine(layer.normalise_observed(observed))

r"""This file is a mixture of structured Gaussians: one for each discrete configuration.

    q(z | x) = sum_d w_d(x) q_d(z | x),     w_d(x) ~ p(d) int prod_f phi_f(z; x, d) dz,

with q_d the products of exact potentials given d, so that q is the posterior. Column by
column, in sampling order, it is a mixture of normals whose weights are w_d times the
densities that q_d gave the columns before,

    q(z_c | before) = sum_d softmax(log w_d + log q_d(before)) q_d(z_c | before),

which is how it is drawn, each column by its monotone map from a base point.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..autoregressive.mixture import Mixture
from ..flow.normalised_flow import NormalisedFlow
from ..flow.protocol import FlowDraw
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed
from ..flow.structure import Structure
from ..model.standard_normal import standard_normal_terms
from .flow import StructuredGaussianConfig, potentials_with
from .scaling import PotentialMap, PotentialScaling

__all__ = ["GaussianMixtureFlow"]


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """The mixture given data.

    Args:
        maps: of the components.
        log_weights: of the components, normalised.
    """

    maps: Sequence[PotentialMap]
    log_weights: Float[Tensor, "batch component"]


class GaussianMixtureFlow(NormalisedFlow):
    """See `flow.protocol.Flow`; nothing of it is trained.

    Args:
        structure: with exact potentials of several components.
        config: of the kind.
        seed: that all kinds have.
    """

    kind = "structured-gaussian"
    is_exact = True
    config: StructuredGaussianConfig

    def __init__(
        self, structure: Structure, config: StructuredGaussianConfig, seed: int
    ) -> None:
        count = 1 + max(each.component for each in structure.potentials)
        parts: list[PotentialScaling] = []
        for component in range(count):
            own = [p for p in structure.potentials if p.component == component]
            alone = tuple(replace(each, component=0) for each in own)
            part = replace(structure, potentials=alone)
            parts.append(potentials_with(part, config, seed))
        super().__init__(structure, config, normalisation=parts[0])
        self.others = nn.ModuleList(parts[1:])

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits shift and scale, which all components share, to joint draws."""
        for component in self._components():
            component.fit(free, observed)

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        state, given = self._join(free, nuisances), self._given(observed)
        parts = [
            standard_normal_terms(each.to_residual(state)) + each.log_det_columns
            for each in given.maps
        ]
        return self._per_node(given.log_weights, torch.stack(parts, -1))

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        nothing = torch.zeros(base.shape[-1], dtype=torch.bool)
        return self._completed(base, nothing, base, observed)

    def _completed(
        self, state: Tensor, is_given: Tensor, fresh: Tensor, observed: Tensor
    ) -> FlowDraw:
        given = self._given(observed)
        free = {*self._first.buffer("free_columns").tolist()}
        known = given.maps[0].scaled(state)
        scaled = torch.zeros_like(fresh)
        log_weights = given.log_weights
        found = []
        for column in range(fresh.shape[-1]):
            place = torch.tensor([column], device=scaled.device)
            value = known[:, column] if is_given[column] else fresh[:, column]
            if column in free:
                both = [each.conditional(scaled, place) for each in given.maps]
                centres, scales = (torch.cat(p, -1) for p in zip(*both, strict=True))
                if not is_given[column]:
                    shares = torch.log_softmax(log_weights, -1)
                    value = Mixture(shares.T, centres.T, scales.T).quantile(value)
                unit = (value[:, None] - centres) / scales
                terms = standard_normal_terms(unit) - scales.log()
                terms = terms - self.normalisation.scale[column].log()
            else:
                terms = standard_normal_terms(value)[:, None].expand_as(log_weights)
            log_weights = log_weights + terms
            found.append(terms)
            scaled = scaled.index_copy(-1, place, value[:, None])
        terms = self._per_node(given.log_weights, torch.stack(found, 1))
        return FlowDraw(*self.columns.split(given.maps[0].unscaled(scaled)), terms)

    def _per_node(
        self,
        log_weights: Float[Tensor, "batch component"],
        terms: Float[Tensor, "batch state component"],
    ) -> LogProbPerNode:
        """Conditional densities of the mixture from those of its components."""
        start = log_weights[:, None]
        whole = torch.cat([start, start + terms.cumsum(1)], 1).logsumexp(-1)
        return self.columns.per_node(whole.diff(dim=1))

    def _given(self, observed: Tensor) -> _Given:
        data = self._first.normalise_observed(observed)
        maps = [component.affine(data) for component in self._components()]
        logs = torch.stack([each.log_total for each in maps], -1)
        return _Given(maps, torch.log_softmax(logs.expand(len(observed), -1), -1))

    @property
    def _first(self) -> PotentialScaling:
        found = self.normalisation
        assert isinstance(found, PotentialScaling)  # noqa: S101 (made so above)
        return found

    def _components(self) -> list[PotentialScaling]:
        others = [each for each in self.others if isinstance(each, PotentialScaling)]
        return [self._first, *others]

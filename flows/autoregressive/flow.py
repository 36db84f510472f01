r"""This file is the autoregressive flow: a mixture for each column given what it reads.

With v the scaled latents and r their residuals behind the affine layer
(`flow/normalisation.py`), r_i = (v_i - a_i - B_i v) / s_i,

    q(z, y | x) = N(y; 0, I) prod_i q_i(r_i | columns that i reads) |dr_i / dz_i|,

q_i being mixtures of normals (`mixture.py`) whose numbers come from the networks of
`conditioner.py`, which read scaled latents and observed values. Densities are exact and
take one look at the networks; draws take one for each round of columns that wait for
others. Base points become residuals column by column, by the monotone map of each
mixture. Nuisances y are the base points themselves.

All latents are in free coordinates, that is on the real line. Densities are in nats.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Self, cast

import torch
from torch import Tensor

from ..flow.column_networks import WHITENING_DRAWS
from ..flow.normalised_flow import WarmedForward
from ..flow.protocol import FlowDraw
from ..flow.scaling import Scaling
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed
from ..flow.structure import Structure
from ..model.standard_normal import standard_normal_terms
from .conditioner import Conditioner, NetworkConfig, sized
from .mixture import Mixture

__all__ = ["AutoregressiveFlow", "Density"]

_MOST_NUMBERS = 2**24
"""Held at once while no gradients are kept; more rows are taken in parts."""

Density = Callable[[Conditioner, Tensor, Tensor], Tensor]
"""Gives `Conditioner.log_prob`."""
_Map = Callable[[Mixture, Tensor], Tensor]


class AutoregressiveFlow(WarmedForward):
    """q(latents, nuisances | observed) in free coordinates; see `flow.protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: shape of the networks.
        seed: of the first weights.
        normalisation: the affine layer; one of the structure's if None.
    """

    kind = "autoregressive"
    is_exact = True
    config: NetworkConfig

    def __init__(
        self,
        structure: Structure,
        config: NetworkConfig,
        seed: int,
        normalisation: Scaling | None = None,
    ) -> None:
        config = sized(config, structure)
        super().__init__(
            structure,
            config,
            everywhere=True,
            log_beyond=config.log_beyond,
            normalisation=normalisation,
        )
        self._density: Density = Conditioner.log_prob
        self._density_for_mean: Density = Conditioner.log_prob
        generator = torch.Generator().manual_seed(seed)
        self.conditioner = Conditioner(structure, config, generator)
        is_free = [c < structure.free_dim for c in structure.state_order]
        places = torch.tensor(is_free).nonzero()[:, 0]
        self.register_buffer("free_columns", places, persistent=False)

    @torch.no_grad()
    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits the normalisation to joint draws, and first weights to its numbers."""
        super().fit_normalisation(free, observed)
        few = free[:WHITENING_DRAWS].to(self.normalisation.shift)
        data = observed[:WHITENING_DRAWS].to(self.normalisation.shift)
        given = self.normalisation.normalise_observed(data)
        none = few.new_zeros(len(given), self.structure.nuisance_dim)
        scaled = self.normalisation.affine(given).scaled(self._join(few, none))
        self.conditioner.fit(scaled[:, self._free], given)

    def scored_by(self, density: Density, *, for_mean: Density | None = None) -> Self:
        """A view of the flow, of the same parameters, with log densities by others.

        Args:
            density: gives them.
            for_mean: gives them where their mean is differentiated.
        """
        view = copy.copy(self)
        view._density = density
        view._density_for_mean = for_mean or density
        return view

    def _warmed(self) -> Self:
        return self.scored_by(self._density_for_mean)

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        rows = (free, nuisances, observed)
        parts = [self._log_prob_per_node(*part) for part in self._in_parts(*rows)]
        return torch.cat(parts)

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        return _joined(
            self._drawn(Mixture.quantile, *part)
            for part in self._in_parts(base, observed)
        )

    def _completed(
        self, state: Tensor, is_given: Tensor, fresh: Tensor, observed: Tensor
    ) -> FlowDraw:
        state = torch.where(is_given, state, 0.0)
        return _joined(
            self._drawn(Mixture.quantile, points, data, known=(is_given, known))
            for points, data, known in self._in_parts(fresh, observed, state)
        )

    @torch.no_grad()
    def drawn(self, base: Base, observed: Observed) -> tuple[Free, Nuisance]:
        """Draws from base points, faster than `from_base` and not by the same map."""
        found = _joined(
            self._drawn(Mixture.picked, *part)
            for part in self._in_parts(base, observed)
        )
        return found.free, found.nuisances

    def _log_prob_per_node(
        self, free: Tensor, nuisances: Tensor, observed: Tensor
    ) -> Tensor:
        given = self.normalisation.normalise_observed(observed)
        affine = self.normalisation.affine(given)
        state = self._join(free, nuisances)
        residual = affine.to_residual(state)
        data = self.conditioner.with_contexts(given)
        read = torch.cat([affine.scaled(state)[:, self._free], data], -1)
        places = self._free[list(self.conditioner.whole.columns)]
        found = self._density(self.conditioner, read, residual[:, places])
        terms = standard_normal_terms(residual).index_copy(1, places, found)
        return self.columns.per_node(terms) + affine.log_det

    def _drawn(
        self,
        carried: _Map,
        base: Tensor,
        observed: Tensor,
        *,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> FlowDraw:
        """Draws column by column, each by a map from its base point.

        Args:
            carried: from base points to residuals, by a mixture.
            base: base points.
            observed: observed values.
            known: which state columns keep values, and these.
        """
        given = self.normalisation.normalise_observed(observed)
        affine = self.normalisation.affine(given)
        residual, scaled = base, base
        if known is not None:
            is_given, state = known
            residual = torch.where(is_given, affine.to_residual(state), base)
            scaled = torch.where(is_given, affine.scaled(state), base)
        terms = standard_normal_terms(residual)
        data = self.conditioner.with_contexts(given)
        for part in self.conditioner.rounds:
            places = self._free[list(part.columns)]
            read = torch.cat([scaled[:, self._free], data], -1)
            mixture = self.conditioner(read, part)
            values = carried(mixture, base[:, places].T).T
            if known is not None:
                values = torch.where(is_given[places], residual[:, places], values)
            found = mixture.log_prob(values.T).T
            terms = terms.index_copy(1, places, found)
            reached = affine.next_scaled(values, scaled, places)
            scaled = scaled.index_copy(1, places, reached)
        latents, nuisances = self.columns.split(affine.unscaled(scaled))
        return FlowDraw(
            latents, nuisances, self.columns.per_node(terms) + affine.log_det
        )

    @property
    def _free(self) -> Tensor:
        return cast("Tensor", self.free_columns)

    def _in_parts(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Rows in parts that fit into memory; all at once where gradients are kept."""
        most = max(1, _MOST_NUMBERS // max(1, self.conditioner.row_size))
        if torch.is_grad_enabled() or len(tensors[0]) <= most:
            return [tensors]
        return list(zip(*(torch.split(each, most) for each in tensors), strict=True))


def _joined(draws: Iterable[FlowDraw]) -> FlowDraw:
    """Draws one below the other."""
    parts = list(draws)
    return FlowDraw(
        torch.cat([each.free for each in parts]),
        torch.cat([each.nuisances for each in parts]),
        torch.cat([each.log_prob_per_node for each in parts]),
    )

r"""This file is the structured Gaussian as a flow: a product of potentials alone.

    q(z | x) = 1/Z(x) prod_f phi_f(z; x),     q(y) = N(y; 0, I),

exact where a factor of the model is linear and normal given the data, a Gaussian
potential from a network of the factor's data elsewhere (`sites.py`). Base points are
carried along the inverse, each node's columns given those of its parents.

Reference: Lin, Hubacher, Khan, "Variational Message Passing with Structured Inference
Networks", ICLR 2018.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..flow.normalised_flow import ResidualFlow, WarmedForward
from ..flow.protocol import Ends, FlowDraw, TwoWay
from ..flow.settings import bounded, choice
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed
from ..flow.structure import Structure
from .scaling import PotentialMap, PotentialScaling

__all__ = ["StructuredGaussianConfig", "StructuredGaussianFlow", "potentials_with"]


@dataclass(frozen=True, slots=True)
class StructuredGaussianConfig:
    """Shape of the potentials' networks.

    Args:
        hidden: units of a hidden layer.
        layers: hidden layers.
        corrected_by: kind of a flow of the residuals (`corrected.py`), its networks of
            their default shape; none where the structured Gaussian is all.
    """

    hidden: int = bounded(32, 1, 1024)
    layers: int = bounded(2, 1, 16)
    corrected_by: str = choice("none", "autoregressive")


def potentials_with(
    structure: Structure, config: StructuredGaussianConfig, seed: int
) -> PotentialScaling:
    """A new layer of a structure's potentials.

    Raises:
        ArgumentError: if the structure has no potentials.
    """
    if not structure.potentials:
        raise ArgumentError.at(
            "structured-gaussian",
            "the structure has no potentials",
            "one that was made for this kind",
            "a structure without any",
        )
    return PotentialScaling(
        structure,
        hidden=config.hidden,
        layers=config.layers,
        generator=torch.Generator().manual_seed(seed),
    )


class StructuredGaussianFlow(WarmedForward, ResidualFlow):
    """See `flow.protocol.Flow`.

    Args:
        structure: blocks and edges, with potentials.
        config: shape of their networks.
        seed: of the first weights.

    Raises:
        ArgumentError: if the structure has no potentials.
    """

    kind = "structured-gaussian"
    is_exact = True
    config: StructuredGaussianConfig

    def __init__(
        self, structure: Structure, config: StructuredGaussianConfig, seed: int
    ) -> None:
        layer = potentials_with(structure, config, seed)
        super().__init__(structure, config, normalisation=layer)

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        return self._scored(self._join(free, nuisances), self._map(observed))

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        return self._drawn(base, self._map(observed))

    def two_way(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> TwoWay:
        """Densities of given latents, and draws, by one elimination."""
        given = self._map(observed)
        terms = self._scored(self._join(free, nuisances), given)
        return TwoWay(terms.sum(-1), self._drawn(base, given))

    def ends(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> Ends:
        """Base points of given latents, and draws."""
        given = self._map(observed)
        moved = given.to_residual(self._join(free, nuisances))
        return Ends(moved, *self.columns.split(given.from_residual(base)))

    def residual_to_base(
        self, residual: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """The residuals themselves."""
        return residual, residual.new_zeros(len(given), len(self.structure.blocks))

    def base_to_residual(
        self, base: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """The base points themselves."""
        return self.residual_to_base(base, given)

    def _scored(self, state: Tensor, given: PotentialMap) -> Tensor:
        return self.columns.base_log_prob(given.to_residual(state)) + given.log_det

    def _drawn(self, base: Tensor, given: PotentialMap) -> FlowDraw:
        drawn = self.columns.split(given.from_residual(base))
        return FlowDraw(*drawn, self.columns.base_log_prob(base) + given.log_det)

    @property
    def potentials(self) -> PotentialScaling:
        """The layer that all of the flow is."""
        found = self.normalisation
        assert isinstance(found, PotentialScaling)  # noqa: S101 (made so above)
        return found

    def _map(self, observed: Tensor) -> PotentialMap:
        layer = self.potentials
        return layer.affine(layer.normalise_observed(observed))

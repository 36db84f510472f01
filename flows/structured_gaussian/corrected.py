r"""This file is a structured Gaussian that an autoregressive flow corrects.

The structured Gaussian is the affine layer: with v the scaled latents and r its
residuals, standard normal in it,

    q(z | x) = prod_i q_i(r_i | columns v that i reads, x) |dr_i / dz_i|,

q_i mixtures of normals as in `autoregressive/flow.py`. Both are trained together.
"""

from ..autoregressive.conditioner import NetworkConfig
from ..autoregressive.flow import AutoregressiveFlow
from ..flow.structure import Structure
from .flow import StructuredGaussianConfig, potentials_with

__all__ = ["NETWORKS", "CorrectedFlow"]

NETWORKS = NetworkConfig(
    components=8,
    layers=3,
    hidden=32,
    last_layer_scale=0.1,
    context=0,
    forms=0,
    log_beyond=0.0,
)
"""Shape of the networks; artifacts do not say it, so it stays."""


class CorrectedFlow(AutoregressiveFlow):
    """See `flow.protocol.Flow`.

    Args:
        structure: blocks and edges, with potentials.
        config: of the kind; the networks have the shape `NETWORKS`.
        seed: of the first weights.
    """

    kind = "structured-gaussian"

    def __init__(
        self, structure: Structure, config: StructuredGaussianConfig, seed: int
    ) -> None:
        layer = potentials_with(structure, config, seed)
        super().__init__(structure, NETWORKS, seed, normalisation=layer)
        self.config = config  # type: ignore[assignment]

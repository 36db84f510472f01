"""This file is a kind of flow for tests: linear-Gaussian along the inverse.

The fitted affine layer carries residuals to latents; shift and scale of each residual
are learned. Nothing is solved, so it has none of the optional abilities.
"""

from dataclasses import dataclass

import torch
from torch import nn

from flows.flow.kinds import Kind
from flows.flow.normalisation import Normalisation
from flows.flow.protocol import FlowDraw
from flows.flow.settings import bounded
from flows.flow.state_columns import StateColumns


@dataclass(frozen=True, slots=True)
class AffineConfig:
    """The scale of residuals at first."""

    first_scale: float = bounded(1.0, 0.01, 100)


class AffineFlow(nn.Module):
    """See `flows.flow.protocol.Flow`."""

    kind, is_exact = "affine", True

    def __init__(self, structure, config):
        super().__init__()
        self.structure, self.config = structure, config
        self.normalisation = Normalisation(structure)
        self.columns = StateColumns(structure)
        self.shift = nn.Parameter(torch.zeros(structure.state_dim))
        self.scale = nn.Parameter(torch.full_like(self.shift, config.first_scale))

    dtype = property(lambda self: self.shift.dtype)
    device = property(lambda self: self.shift.device)

    def fit_normalisation(self, free, observed):
        self.normalisation.fit(free, observed)

    def sample_base(self, num, *, generator=None):
        return self.columns.sample_base(num, self.shift, generator=generator)

    def _affine(self, observed):
        return self.normalisation.affine(
            self.normalisation.normalise_observed(observed)
        )

    def _terms(self, base, affine):
        log_det = self.columns.per_node(self.scale.abs().log())
        return self.columns.base_log_prob(base) - log_det + affine.log_det

    def _base(self, free, nuisances, affine):
        state = self.columns.join(free, nuisances)
        return (affine.to_residual(state) - self.shift) / self.scale

    def from_base(self, base, observed):
        affine = self._affine(observed)
        state = affine.from_residual(base * self.scale + self.shift)
        return FlowDraw(*self.columns.split(state), self._terms(base, affine))

    def log_prob_per_node(self, free, nuisances, observed):
        affine = self._affine(observed)
        return self._terms(self._base(free, nuisances, affine), affine)

    def log_prob(self, free, nuisances, observed):
        return self.log_prob_per_node(free, nuisances, observed).sum(-1)

    def rsample_and_log_prob(self, observed, *, generator=None):
        return self.from_base(
            self.sample_base(len(observed), generator=generator), observed
        )

    def rsample_remaining(self, known, observed, *, generator=None):
        is_given = self.columns.of_nodes(known.nodes)
        joined = self.columns.join(known.free, known.nuisances)
        state = torch.where(is_given, joined, 0.0)
        base = self._base(*self.columns.split(state), self._affine(observed))
        fresh = self.sample_base(len(observed), generator=generator)
        return self.from_base(torch.where(is_given, base, fresh), observed)


KIND = Kind(
    "affine",
    AffineConfig,
    lambda structure, config, seed: AffineFlow(structure, config),
)

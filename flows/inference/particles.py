r"""This file holds weighted values of the latents, merged from batches and averaged.

Particles (z_i, w_i) represent a distribution π through its self-normalised averages

    E_π[f] ≈ Σ_i W_i f(z_i),        W_i = w_i / Σ_j w_j.

The weights stay unnormalised and in log space, so that batches drawn apart merge by
standing side by side. If every weight is 0 no average exists.

References:
    Owen (2013), Monte Carlo theory, methods and examples, section 9.2,
    https://artowen.su.domains/mc/
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InferenceError, Problem
from .weights import WeightTotals, check_log_weights

__all__ = [
    "LatentColumns",
    "NamedVariable",
    "Particles",
    "VariableLayout",
    "latent_columns",
]


class NamedVariable(Protocol):
    """What a layout says of one variable."""

    @property
    def name(self) -> str:
        """Return the document's name."""

    @property
    def label(self) -> str:
        """Return the program's own name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one value."""


class VariableLayout(Protocol):
    """The variables in the order of their columns."""

    @property
    def latents(self) -> Sequence[NamedVariable]:
        """Return the latents."""

    @property
    def observed(self) -> Sequence[NamedVariable]:
        """Return the observed variables."""


@dataclass(frozen=True, slots=True)
class LatentColumns:
    """The columns that one latent occupies in a flat tensor.

    Attributes:
        name: The document's name, such as `sample0`.
        label: The program's own name, such as `z0`.
        shape: Shape of one value; `()` for a number.
        start: First column.
        stop: One past the last column.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def element_labels(self) -> tuple[str, ...]:
        """Return one label per column: `z0`, or `w[0]`, `w[1]`, ... in C order."""
        if not self.shape:
            return (self.label,)
        return tuple(
            f"{self.label}[{','.join(map(str, index))}]"
            for index in np.ndindex(*self.shape)
        )


def latent_columns(layout: VariableLayout) -> tuple[LatentColumns, ...]:
    """Return the columns of each latent, laid side by side in the layout's order."""
    columns: list[LatentColumns] = []
    start = 0
    for latent in layout.latents:
        shape = tuple(latent.shape)
        stop = start + math.prod(shape)
        columns.append(LatentColumns(latent.name, latent.label, shape, start, stop))
        start = stop
    return tuple(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """Weighted values of all latents.

    Attributes:
        latents: Natural values, float64, one row per particle.
        log_weights: Unnormalised log weights in nats, float64.
        columns: Which columns belong to which latent.
    """

    latents: Float[Tensor, "particle latent"]
    log_weights: Float[Tensor, " particle"]
    columns: tuple[LatentColumns, ...]

    @classmethod
    def from_draws(
        cls,
        latents: Float[Tensor, "particle latent"],
        log_weights: Float[Tensor, " particle"],
        columns: Sequence[LatentColumns],
    ) -> "Particles":
        """Return particles, their shapes, dtypes and weights checked.

        Raises:
            ValueError: If the shapes do not fit together.
            TypeError: If latents or weights are not float64.
            InferenceError: If a log weight is nan or +inf.
        """
        width = columns[-1].stop if columns else 0
        num = log_weights.shape[0]
        if log_weights.ndim != 1 or latents.shape != (num, width):
            raise ValueError(
                f"particles: latents and log weights do not fit together;"
                f" expected [n, {width}] and [n];"
                f" got {list(latents.shape)} and {list(log_weights.shape)}"
            )
        if latents.dtype != torch.float64:
            raise TypeError(f"particles: latents must be float64; got {latents.dtype}")
        check_log_weights(log_weights, "particles")
        return cls(latents.detach(), log_weights.detach(), tuple(columns))

    @classmethod
    def merge(cls, batches: Iterable["Particles"]) -> "Particles":
        """Return the particles of all batches as one set.

        Unnormalised weights need no rescaling: a batch counts by its weights.

        Raises:
            ValueError: If there is no batch, or if columns differ between batches.
        """
        parts = tuple(batches)
        if not parts:
            raise ValueError("particles: nothing to merge; expected at least one batch")
        for part in parts:
            if part.columns != parts[0].columns:
                raise ValueError("particles: batches of different latents do not merge")
        return cls(
            torch.cat([part.latents for part in parts]),
            torch.cat([part.log_weights for part in parts]),
            parts[0].columns,
        )

    @property
    def num_particles(self) -> int:
        """Return the number of particles."""
        return self.log_weights.shape[0]

    @property
    def totals(self) -> WeightTotals:
        """Return what the weights add up to."""
        return WeightTotals.from_log_weights(self.log_weights)

    @property
    def element_labels(self) -> tuple[str, ...]:
        """Return one label per column of `latents`."""
        return tuple(label for each in self.columns for label in each.element_labels)

    @property
    def normalized_weights(self) -> Float[Tensor, " particle"]:
        """Return the weights scaled to sum to one.

        Raises:
            InferenceError: If every weight is 0, for then no average exists.
        """
        if not bool((self.log_weights > -math.inf).any()):
            raise InferenceError(
                Problem(
                    "particles",
                    "all weights are 0, so averages do not exist",
                    "at least one positive weight",
                    f"{self.num_particles} particles of weight 0",
                )
            )
        return self.log_weights.softmax(0)

    def value(self, name: str) -> Float[Tensor, "particle ..."]:
        """Return the values of one latent, in its own shape.

        Args:
            name: The document's name or the program's.

        Raises:
            KeyError: If no latent has this name.
        """
        for each in self.columns:
            if name in (each.name, each.label):
                block = self.latents[:, each.start : each.stop]
                return block.reshape(self.num_particles, *each.shape)
        known = ", ".join(each.label for each in self.columns)
        raise KeyError(f"particles: no latent is called {name!r}; there are {known}")

    def mean(self) -> Float[Tensor, " latent"]:
        """Return the weighted mean m = Σ W z of every column."""
        return self.normalized_weights @ self._with_weight()

    def sd(self) -> Float[Tensor, " latent"]:
        """Return the weighted standard deviation √(Σ W (z - m)²) of every column."""
        deviation = self._with_weight() - self.mean()
        return (self.normalized_weights @ deviation.square()).sqrt()

    def mean_standard_error(self) -> Float[Tensor, " latent"]:
        """Return the Monte Carlo standard error of `mean`: √(Σ W² (z - m)²).

        The delta method for a ratio of two means (Owen, equation 9.9).
        """
        deviation = self._with_weight() - self.mean()
        return (self.normalized_weights.square() @ deviation.square()).sqrt()

    def quantiles(self, levels: Sequence[float]) -> Float[Tensor, "level latent"]:
        """Return weighted quantiles of every column.

        The quantile at level p is the smallest value whose weighted distribution
        function reaches p: a value that a particle of positive weight has.

        Raises:
            ValueError: If a level is not strictly between 0 and 1.
        """
        if not all(0.0 < level < 1.0 for level in levels):
            raise ValueError(
                f"quantiles: levels must lie strictly between 0 and 1; got {levels}"
            )
        weights = self.normalized_weights
        positive = weights > 0.0
        values, order = self.latents[positive].sort(0)
        reached = weights[positive][order].cumsum(0)
        wanted = torch.tensor(levels, dtype=torch.float64, device=weights.device)
        rows = torch.searchsorted(
            reached.T.contiguous(),
            wanted.expand(values.shape[1], -1).contiguous(),
        ).T
        # The cumulative sum may end a rounding below one.
        return values.gather(0, rows.clamp(max=values.shape[0] - 1))

    def _with_weight(self) -> Float[Tensor, "particle latent"]:
        """Return the latents, 0 where the weight is 0: 0 · inf counts as nothing."""
        outside = (self.log_weights == -math.inf).unsqueeze(1)
        return self.latents.masked_fill(outside, 0.0)

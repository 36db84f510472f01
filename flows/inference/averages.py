r"""This file averages weighted values.

Values f_i with weights w_i represent a distribution π through self-normalised averages

    E_π[f] ≈ Σ_i W_i f_i,        W_i = w_i / Σ_j w_j.

If every weight is 0 no average exists.

References:
    Owen (2013), Monte Carlo theory, methods and examples, section 9.2,
    https://artowen.su.domains/mc/
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError, InferenceError

__all__ = ["Averages"]


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """Weighted averages of every column of some values.

    Attributes:
        values: float64, one row for each weight.
        log_weights: Unnormalised log weights in nats, float64.

    Example:
        >>> import torch
        >>> values = torch.tensor([[1.0], [4.0]]).double()
        >>> Averages(values, torch.tensor([2.0, 1.0]).double().log()).mean().item()
        2.0
    """

    values: Float[Tensor, "row column"]
    log_weights: Float[Tensor, " row"]

    @property
    def normalized_weights(self) -> Float[Tensor, " row"]:
        """Return the weights scaled to sum to one.

        Raises:
            InferenceError: If every weight is 0, for then no average exists.
        """
        if not bool((self.log_weights > -math.inf).any()):
            raise InferenceError.at(
                "averages",
                "all weights are 0, so averages do not exist",
                "at least one positive weight",
                f"{len(self.log_weights)} weights of 0",
            )
        return self.log_weights.softmax(0)

    def mean(self) -> Float[Tensor, " column"]:
        """Return the weighted mean m = Σ W z of every column."""
        return self.normalized_weights @ self._with_weight()

    def sd(self) -> Float[Tensor, " column"]:
        """Return the weighted standard deviation √(Σ W (z - m)²) of every column."""
        deviation = self._with_weight() - self.mean()
        return (self.normalized_weights @ deviation.square()).sqrt()

    def mean_standard_error(self) -> Float[Tensor, " column"]:
        """Return the Monte Carlo standard error of `mean`: √(Σ W² (z - m)²).

        The delta method for a ratio of two means (Owen, equation 9.9).
        """
        deviation = self._with_weight() - self.mean()
        return (self.normalized_weights.square() @ deviation.square()).sqrt()

    def quantiles(self, levels: Sequence[float]) -> Float[Tensor, "level column"]:
        """Return weighted quantiles of every column.

        The quantile at level p is the smallest value whose weighted distribution
        function reaches p: a value that a particle of positive weight has.

        Raises:
            ArgumentError: If a level is not strictly between 0 and 1.
        """
        if not all(0.0 < level < 1.0 for level in levels):
            raise ArgumentError.at(
                "quantiles",
                "a level is out of range",
                "levels strictly between 0 and 1",
                str(list(levels)),
            )
        weights = self.normalized_weights
        positive = weights > 0.0
        values, order = self.values[positive].sort(0)
        reached = weights[positive][order].cumsum(0)
        wanted = torch.tensor(levels, dtype=torch.float64, device=weights.device)
        rows = torch.searchsorted(
            reached.T.contiguous(),
            wanted.expand(values.shape[1], -1).contiguous(),
        ).T
        # The cumulative sum may end a rounding below one.
        return values.gather(0, rows.clamp(max=values.shape[0] - 1))

    def _with_weight(self) -> Float[Tensor, "row column"]:
        """Return the values, 0 where the weight is 0: 0 · inf counts as nothing."""
        outside = (self.normalized_weights == 0.0).unsqueeze(1)
        return self.values.masked_fill(outside, 0.0)

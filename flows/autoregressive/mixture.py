r"""This file is a mixture of normals on the line: its density, quantiles and draws.

With weights w_k, centres m_k and scales s_k the distribution function is

    F(r) = sum_k w_k Phi((r - m_k) / s_k),

and the monotone map e -> F^-1(Phi(e)) carries a standard normal to the mixture. It is
solved for on the side of e: of F and 1 - F the small one is compared, so that it holds
in the tails. The quantile lies between the least and the largest of the components'
own, m_k + s_k e, where Newton's method on the logarithm is kept by bisection.

Components stand before the last axis, so that sums over them run along long rows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.standard_normal import HALF_LOG_TWO_PI

__all__ = ["Mixture"]

_MOST_STEPS = 200
_BISECTED = 5
"""Of so many steps one halves the interval, which Newton's may leave long."""
_ROUNDINGS = 4.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """One mixture for each entry of a batch.

    Args:
        log_weights: logarithms of w, which add up to one.
        centres: m.
        scales: s.

    Example:
        >>> half = torch.tensor([[0.5], [0.5]], dtype=torch.float64).log()
        >>> both = torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
        >>> mixture = Mixture(half, both, torch.ones_like(both))
        >>> round(float(mixture.quantile(torch.zeros(1, dtype=torch.float64))), 9)
        0.0
    """

    log_weights: Float[Tensor, "*batch component row"]
    centres: Float[Tensor, "*batch component row"]
    scales: Float[Tensor, "*batch component row"]

    def log_prob(
        self, values: Float[Tensor, "*batch row"]
    ) -> Float[Tensor, "*batch row"]:
        """Log densities, in nats."""
        unit = (values[..., None, :] - self.centres) / self.scales
        terms = self.log_weights - self.scales.log() - 0.5 * unit.square()
        return torch.logsumexp(terms, -2) - HALF_LOG_TWO_PI

    def quantile(
        self, base: Float[Tensor, "*batch row"]
    ) -> Float[Tensor, "*batch row"]:
        """Where the monotone map carries standard normal points; carries gradients.

        Gradients are those of F(r) = Phi(e), by the points and the parameters.
        """
        side = 1.0 - 2.0 * (base > 0).to(base)
        with torch.no_grad():
            found = self._solved(base, side)
            density = self.log_prob(found).exp()
        gap = self._tail(found, side) - _normal_cdf(side * base)
        step = torch.where(density > 0, side * gap / density, 0.0)
        return found - (step - step.detach())

    @torch.no_grad()
    def picked(self, base: Float[Tensor, "*batch row"]) -> Float[Tensor, "*batch row"]:
        """Draws of the mixture from standard normal points, by picking components.

        Phi(e) picks a component, and what is left of it the point there: no equation is
        solved, but the map is not monotone.
        """
        uniform = _normal_cdf(base.double())[..., None, :]
        weights = self.log_weights.double().exp()
        upper = weights.cumsum(-2)
        last = torch.full_like(uniform, weights.shape[-2] - 1, dtype=torch.long)
        index = torch.minimum((upper < uniform).sum(-2, keepdim=True), last)
        weight = weights.gather(-2, index)
        part = (uniform - upper.gather(-2, index) + weight) / weight
        tiny = torch.finfo(part.dtype).eps
        unit = torch.special.ndtri(part.clamp(tiny, 1.0 - tiny)).to(base)
        centre, scale = (each.gather(-2, index) for each in (self.centres, self.scales))
        drawn: Tensor = centre + scale * unit
        return drawn[..., 0, :]

    def _tail(self, values: Tensor, side: Tensor) -> Tensor:
        """F where the side is 1, 1 - F where it is -1."""
        unit = (values[..., None, :] - self.centres) / self.scales
        below = _normal_cdf(side[..., None, :] * unit)
        return (self.log_weights.exp() * below).sum(-2)

    def _solved(self, base: Tensor, side: Tensor) -> Tensor:
        """The quantile, to rounding; entries that have it wait no longer for others."""
        own = self.centres + self.scales * base[..., None, :]
        values = (self.log_weights.exp() * own).sum(-2).flatten()
        wanted = _normal_cdf(side * base).log().flatten()
        low, high, side = own.amin(-2).flatten(), own.amax(-2).flatten(), side.flatten()
        allowed = _ROUNDINGS * torch.finfo(base.dtype).eps
        rest, found = self._flat(), values.clone()
        waiting = torch.arange(len(values), device=values.device)
        for count in range(_MOST_STEPS):
            if not len(waiting):
                break
            tail = rest._tail(values, side)
            gap = side * (tail.log() - wanted)
            step = gap * tail / rest.log_prob(values).exp()
            low = torch.where(gap < 0, values, low)
            high = torch.where(gap > 0, values, high)
            near = torch.minimum(step.abs(), high - low)
            is_near = (near <= allowed * (1.0 + values.abs())) | (gap.abs() <= allowed)
            found[waiting] = values
            halves = count % _BISECTED == _BISECTED - 1
            tried = values - step
            keeps = (tried > low) & (tried < high) & (not halves)
            values = torch.where(keeps, tried, 0.5 * (low + high))
            open_ = ~is_near
            waiting, values, wanted = waiting[open_], values[open_], wanted[open_]
            low, high, side, rest = (
                low[open_],
                high[open_],
                side[open_],
                rest._at(open_),
            )
        return found.view(base.shape)

    def _flat(self) -> "Mixture":
        """The mixtures in one row."""
        parts = (self.log_weights, self.centres, self.scales)
        return Mixture(*(part.movedim(-2, 0).flatten(1) for part in parts))

    def _at(self, which: Tensor) -> "Mixture":
        """Some of the mixtures."""
        parts = (self.log_weights, self.centres, self.scales)
        return Mixture(*(part[:, which] for part in parts))


def _normal_cdf(values: Tensor) -> Tensor:
    """Phi, exact far below zero too, where `torch.special.ndtr` is not."""
    return 0.5 * torch.erfc(values * -(0.5**0.5))

r"""This file fits the tail of weights: Pareto k-hat.

Above a high cutoff u the excess of a weight follows, in the limit, a
generalised Pareto law with shape k: moments of order 1/k and higher do not exist. The
shape is fitted to the M = min(N/5, 3√N) largest weights. k < 1/2: the variance of the
estimates exists. k > 0.7: the error of no practical N can be judged. The fit is the
profile posterior of Zhang and Stephens: with θ = -k/σ, exceedances x_1 ≤ ... ≤ x_M,

    k(θ) = mean_i log(1 - θ x_i),      ℓ(θ) = M [log(-θ / k(θ)) - k(θ) - 1],

θ is averaged over a grid, θ_j = 1/x_M + (1 - √(m / (j - ½))) / (3 x_{⌊M/4 + ½⌋}),
with weights ∝ exp ℓ(θ_j), and k(θ) is shrunk to ½ as by 10 more exceedances.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling,
    JMLR 25(72), https://jmlr.org/papers/v25/19-556.html
    Zhang and Stephens (2009), A new and efficient estimation method for the generalized
    Pareto distribution, Technometrics 51(3).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .weights import check_log_weights

__all__ = ["pareto_k_hat"]

_MIN_TAIL = 5
_GRID_SIZE = 30
_PRIOR_OBSERVATIONS = 10
_PRIOR_SHAPE = 0.5
_PRIOR_THETA = 3.0
# Weights that agree to this relative precision count as equal: they have no tail.
_EQUAL_WEIGHTS = 1e-10
_LEAST_TAIL = 1e-3
"""Share of all weight by which the largest rise above the cutoff. Less is no tail, what
shape it may have: of shape 0.9 what was not drawn would be worth a hundredth."""


def pareto_k_hat(log_weights: Float[Tensor, " particle"]) -> float:
    """Return the Pareto shape of the tail of the weights.

    It is nan for fewer than 25 particles (no tail to fit), -inf if the largest weights
    are all equal, or rise so little above the cutoff that a shape above 1/2 would not
    matter (no tail at all), and +inf if fewer than 5 weights rise above the cutoff
    (nothing but a tail).

    Raises:
        InferenceError: If a log weight is nan or +inf.
    """
    check_log_weights(log_weights, "k-hat")
    num = log_weights.shape[0]
    num_tail = int(min(num / 5, math.ceil(3 * math.sqrt(num))))
    if num_tail < _MIN_TAIL:
        return math.nan
    largest = log_weights.topk(num_tail + 1).values.flip(0)
    if bool(largest[-1] == -math.inf):
        return math.inf
    # Scaled by the largest weight; a cutoff of weight 0 is one like any other.
    relative = (largest - largest[-1]).exp()
    if float(relative[-1] - relative[0]) < _EQUAL_WEIGHTS:
        return -math.inf
    excess = relative[1:] - relative[0]
    excess = excess[excess > 0.0]
    if excess.shape[0] < _MIN_TAIL:
        return math.inf
    shape = _pareto_shape(excess)
    total = (log_weights - largest[-1]).exp().sum()
    is_light = float(excess.sum() / total) < _LEAST_TAIL
    return -math.inf if is_light and shape > _PRIOR_SHAPE else shape


def _pareto_shape(excess: Float[Tensor, " tail"]) -> float:
    """Return the fitted shape of positive exceedances in ascending order."""
    num = excess.shape[0]
    num_grid = _GRID_SIZE + math.isqrt(num)
    index = torch.arange(1, num_grid + 1, dtype=torch.float64, device=excess.device)
    quartile = excess[int(num / 4 + 0.5) - 1]
    offset = (1.0 - (num_grid / (index - 0.5)).sqrt()) / (_PRIOR_THETA * quartile)
    theta = 1.0 / excess[-1] + offset
    shape = torch.log1p(-theta.unsqueeze(1) * excess).mean(1)
    log_profile = num * ((-theta / shape).log() - shape - 1.0)
    mean_theta = log_profile.softmax(0) @ theta
    fitted = float(torch.log1p(-mean_theta * excess).mean())
    weight = num + _PRIOR_OBSERVATIONS
    return (num * fitted + _PRIOR_OBSERVATIONS * _PRIOR_SHAPE) / weight

"""This file gives every family of the language its density and its sampler in torch.

Tensors carry the slot (one node) first and the row (one draw) last: a scalar value has
shape [slot, row], a vector [slot, d, row], a matrix [slot, d, d, row], parameters
likewise; any slot or row dimension may be 1. Conventions are those of
`daphne_bridge.families`: `normal` has a standard deviation, `gamma`, `exponential` and
`poisson` a rate, `mvn` a covariance; `uniform-discrete` excludes its maximum. Log
densities in nats; a dirichlet's is relative to its first d - 1 values, a wishart's to
its lower triangle.

Outside the support a log density is -inf, with gradient zero. Where a parameter has no
meaning it is nan; `Parameter.is_valid` says which one, and the model turns it into an
error that names the node.

References:
    Johnson, Kotz, Balakrishnan, "Continuous univariate distributions" (1994, 1995).
    Smith and Hocking, "Wishart variate generator" (1972), for Bartlett's decomposition.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from daphne_bridge.language.families import FAMILIES as NAMES
from daphne_bridge.language.families import Family

from .standard_normal import HALF_LOG_TWO_PI

__all__ = ["DENSITIES", "Density", "Parameter", "Shape", "event_shape"]

Shape = tuple[int, ...]

# ------------------------------------------------------------------ parameters


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter must be.

    Attributes:
        name: Its name, as in `daphne_bridge.families`.
        rank: 0 for a number, 1 for a vector, 2 for a matrix.
        expected: What is valid, in words.
        is_valid: Mask [slot, row] of a batch of values.
    """

    name: str
    rank: int
    expected: str
    is_valid: Callable[[Tensor], Tensor]


def _positive(value: Tensor) -> Tensor:
    return (value > 0) & (value < math.inf)


def _finite(value: Tensor) -> Tensor:
    return torch.isfinite(value)


def _probability(value: Tensor) -> Tensor:
    return (value >= 0) & (value <= 1)


def _chance(value: Tensor) -> Tensor:
    return (value > 0) & (value <= 1)


def _whole(value: Tensor) -> Tensor:
    return _finite(value) & (value == torch.floor(value))


def _count(value: Tensor) -> Tensor:
    return _whole(value) & (value >= 0)


def _weights(value: Tensor) -> Tensor:
    return (value >= 0).all(1) & _positive(value.sum(1))


def _all_positive(value: Tensor) -> Tensor:
    return _positive(value).all(1)


def _all_finite(value: Tensor) -> Tensor:
    return _finite(value).all(1)


def _rows_first(matrix: Tensor) -> Tensor:
    """Return [slot, row, d, d] from [slot, d, d, row]."""
    return matrix.movedim(-1, 1)


def _cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor [slot, row, d, d], and a mask of where there is one.

    Elsewhere the factor is the identity. It is found in double precision: a covariance
    that falls off smoothly is singular in single precision.
    """
    last = _rows_first(matrix).double()
    scale = last.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    slack = 100 * torch.finfo(last.dtype).eps * scale[..., None, None]
    is_symmetric = ((last - last.mT).abs() <= slack).all(-1).all(-1)
    factor, failed = torch.linalg.cholesky_ex(last)
    is_valid = is_symmetric & (failed == 0)
    identity = torch.eye(last.shape[-1], dtype=last.dtype, device=last.device)
    safe = torch.where(is_valid[..., None, None], last, identity)
    found = (
        torch.linalg.cholesky_ex(safe)[0]
        if last.requires_grad
        else torch.where(is_valid[..., None, None], factor, identity)
    )
    return found.to(matrix.dtype), is_valid


def _positive_definite(value: Tensor) -> Tensor:
    return _cholesky(value)[1]


_NUMBER = (0, "a finite number", _finite)
_POSITIVE = (0, "a positive number", _positive)
_CHANCE = (0, "a number above 0 and up to 1", _chance)
_PROBABILITY = (0, "a number from 0 to 1", _probability)
_VECTOR = (1, "a vector of finite numbers", _all_finite)
_MATRIX = (2, "a symmetric positive definite matrix", _positive_definite)
_WEIGHTS = (1, "weights that are not negative and not all zero", _weights)


# ------------------------------------------------------------------ densities


def _inside(mask: Tensor, value: Tensor) -> Tensor:
    return torch.where(mask, value, -math.inf)


def _normal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    z = (x - mean) / scale
    return -0.5 * z * z - (torch.log(scale) + HALF_LOG_TWO_PI)


def _laplace(x: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    return -torch.abs(x - location) / scale - torch.log(2.0 * scale)


def _gamma(x: Tensor, shape: Tensor, rate: Tensor) -> Tensor:
    is_inside = _positive(x)
    y = torch.where(is_inside, x, 1.0)
    constant = shape * torch.log(rate) - torch.lgamma(shape)
    return _inside(is_inside, constant + (shape - 1.0) * torch.log(y) - rate * y)


def _beta(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    is_inside = (x > 0) & (x < 1)
    y = torch.where(is_inside, x, 0.5)
    constant = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    density = (a - 1.0) * torch.log(y) + (b - 1.0) * torch.log1p(-y)
    return _inside(is_inside, density + constant)


def _exponential(x: Tensor, rate: Tensor) -> Tensor:
    is_inside = (x >= 0) & (x < math.inf)
    y = torch.where(is_inside, x, 1.0)
    return _inside(is_inside, torch.log(rate) - rate * y)


def _uniform(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return _inside((x >= low) & (x <= high), -torch.log(high - low))


def _log_mass_between(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Φ(high) - Φ(low)), taken in the tail that loses no digits."""
    is_above = low > 0
    left = torch.where(is_above, -high, low)
    right: Tensor = torch.special.log_ndtr(torch.where(is_above, -low, high))
    ratio: Tensor = torch.exp(torch.special.log_ndtr(left) - right)
    return right + torch.log1p(-ratio)


def _truncated_normal(
    x: Tensor, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    mass = _log_mass_between((low - mean) / scale, (high - mean) / scale)
    return _inside((x >= low) & (x <= high), _normal(x, mean, scale) - mass)


def _half_normal(x: Tensor, scale: Tensor) -> Tensor:
    density = _normal(x, torch.zeros_like(scale), scale) + math.log(2.0)
    return _inside((x >= 0) & (x < math.inf), density)


def _cauchy(x: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    z = (x - location) / scale
    return -torch.log1p(z * z) - torch.log(math.pi * scale)


def _half_cauchy(x: Tensor, scale: Tensor) -> Tensor:
    density = _cauchy(x, torch.zeros_like(scale), scale) + math.log(2.0)
    return _inside((x >= 0) & (x < math.inf), density)


def _lognormal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    is_inside = _positive(x)
    y = torch.log(torch.where(is_inside, x, 1.0))
    return _inside(is_inside, _normal(y, mean, scale) - y)


def _inverse_gamma(x: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    is_inside = _positive(x)
    y = torch.where(is_inside, x, 1.0)
    constant = shape * torch.log(scale) - torch.lgamma(shape)
    return _inside(is_inside, constant - (shape + 1.0) * torch.log(y) - scale / y)


def _student(x: Tensor, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    z = (x - location) / scale
    half = 0.5 * (nu + 1.0)
    constant = torch.lgamma(half) - torch.lgamma(0.5 * nu)
    constant = constant - 0.5 * torch.log(math.pi * nu) - torch.log(scale)
    return constant - half * torch.log1p(z * z / nu)


def _standard_student(x: Tensor, nu: Tensor) -> Tensor:
    return _student(x, nu, torch.zeros_like(nu), torch.ones_like(nu))


def _chi_squared(x: Tensor, nu: Tensor) -> Tensor:
    return _gamma(x, 0.5 * nu, torch.full_like(nu, 0.5))


def _flip(x: Tensor, probability: Tensor) -> Tensor:
    is_inside = (x == 0) | (x == 1)
    chance = torch.where(x == 1, probability, 1.0 - probability)
    return _inside(is_inside, torch.log(chance))


def _log_power(exponent: Tensor, base: Tensor) -> Tensor:
    """Return exponent · log base, 0 where the exponent is 0."""
    is_read = exponent != 0
    return torch.where(is_read, exponent * torch.log(base.where(is_read, 1.0)), 0.0)


def _binomial(x: Tensor, trials: Tensor, probability: Tensor) -> Tensor:
    is_inside = (x >= 0) & (x <= trials) & (x == torch.floor(x))
    k = torch.where(is_inside, x, 0.0)
    ways = (
        torch.lgamma(trials + 1.0)
        - torch.lgamma(k + 1.0)
        - torch.lgamma(trials - k + 1.0)
    )
    chance, probability = torch.broadcast_tensors(ways, probability)  # type: ignore[no-untyped-call]
    hits = _log_power(k.expand_as(chance), probability)
    misses = _log_power(trials - k, 1.0 - probability)
    return _inside(is_inside, ways + hits + misses)


def _poisson(x: Tensor, rate: Tensor) -> Tensor:
    is_inside = _count(x)
    k = torch.where(is_inside, x, 0.0)
    return _inside(is_inside, k * torch.log(rate) - rate - torch.lgamma(k + 1.0))


def _negative_binomial(x: Tensor, successes: Tensor, probability: Tensor) -> Tensor:
    is_inside = _count(x)
    k = torch.where(is_inside, x, 0.0)
    ways = torch.lgamma(k + successes) - torch.lgamma(k + 1.0) - torch.lgamma(successes)
    ways, chance = torch.broadcast_tensors(ways, probability)  # type: ignore[no-untyped-call]
    failures = _log_power(k.expand_as(ways), 1.0 - chance)
    return _inside(is_inside, ways + successes * torch.log(chance) + failures)


def _geometric(x: Tensor, probability: Tensor) -> Tensor:
    return _negative_binomial(x, torch.ones_like(probability), probability)


def _dirac(x: Tensor, value: Tensor) -> Tensor:
    return _inside(x == value, torch.zeros_like(x * value))


def _discrete(x: Tensor, weights: Tensor) -> Tensor:
    count = weights.shape[1]
    is_inside = (x >= 0) & (x < count) & (x == torch.floor(x))
    index = torch.where(is_inside, x, 0.0).long()
    slots = max(weights.shape[0], x.shape[0])
    rows = max(weights.shape[2], x.shape[1])
    wide = weights.expand(slots, count, rows)
    weight = torch.gather(wide, 1, index.expand(slots, rows).unsqueeze(1)).squeeze(1)
    return _inside(is_inside, torch.log(weight) - torch.log(weights.sum(1)))


def _uniform_discrete(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    is_inside = (x >= low) & (x < high) & (x == torch.floor(x))
    return _inside(is_inside, -torch.log(high - low))


def _dirichlet(x: Tensor, alpha: Tensor) -> Tensor:
    slack = 4.0 * x.shape[1] * math.sqrt(torch.finfo(x.dtype).eps)
    in_simplex = (x >= 0).all(1) & ((x.sum(1) - 1.0).abs() <= slack)
    y = torch.where(in_simplex.unsqueeze(1), x, 1.0 / x.shape[1])
    constant = torch.lgamma(alpha.sum(1)) - torch.lgamma(alpha).sum(1)
    exponent, y = torch.broadcast_tensors(alpha - 1.0, y)  # type: ignore[no-untyped-call]
    return _inside(in_simplex, _log_power(exponent, y).sum(1) + constant)


def _standardised(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Return Σ z², z = L⁻¹ (x - mean), as [slot, row]."""
    shift = (x - mean).movedim(-1, 1).unsqueeze(-1)
    batch = torch.broadcast_shapes(shift.shape[:2], factor.shape[:2])  # type: ignore[no-untyped-call]
    z = torch.linalg.solve_triangular(
        factor.expand(*batch, *factor.shape[2:]),
        shift.expand(*batch, *shift.shape[2:]),
        upper=False,
    )
    distance: Tensor = (z * z).sum((-1, -2))
    return distance


def _half_log_det(factor: Tensor) -> Tensor:
    return torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)


def _mvn(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    factor, is_valid = _cholesky(covariance)
    constant = x.shape[1] * HALF_LOG_TWO_PI
    density = -0.5 * _standardised(x, mean, factor) - _half_log_det(factor) - constant
    return torch.where(is_valid, density, math.nan)


def _multivariate_t(x: Tensor, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    factor, is_valid = _cholesky(scale)
    size = x.shape[1]
    half = 0.5 * (nu + size)
    constant = torch.lgamma(half) - torch.lgamma(0.5 * nu)
    constant = constant - 0.5 * size * torch.log(math.pi * nu) - _half_log_det(factor)
    distance = _standardised(x, location, factor)
    density = constant - half * torch.log1p(distance / nu)
    return torch.where(is_valid, density, math.nan)


def _wishart(x: Tensor, nu: Tensor, scale: Tensor) -> Tensor:
    size = x.shape[1]
    x_factor, in_support = _cholesky(x)
    v_factor, is_valid = _cholesky(scale)
    batch = torch.broadcast_shapes(x_factor.shape[:2], v_factor.shape[:2])  # type: ignore[no-untyped-call]
    whitened = torch.linalg.solve_triangular(
        v_factor.expand(*batch, size, size),
        x_factor.expand(*batch, size, size),
        upper=False,
    )
    trace = (whitened * whitened).sum((-1, -2))
    index = torch.arange(size, dtype=x.dtype, device=x.device)[:, None, None]
    log_gamma = torch.lgamma(0.5 * (nu - index)).sum(0)
    log_gamma = log_gamma + 0.25 * size * (size - 1) * math.log(math.pi)
    density = (
        (nu - size - 1.0) * _half_log_det(x_factor)
        - 0.5 * trace
        - 0.5 * nu * size * math.log(2.0)
        - nu * _half_log_det(v_factor)
        - log_gamma
    )
    return torch.where(is_valid, _inside(in_support, density), math.nan)


# ------------------------------------------------------------------ samplers
#
# A sampler takes parameters already expanded to [slot, ..., row].


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


def _standard_normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(
        like.shape, dtype=like.dtype, device=like.device, generator=generator
    )


def _standard_exponential(like: Tensor, generator: Generator) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format).exponential_(
        generator=generator
    )


def _unit(like: Tensor, generator: Generator) -> Tensor:
    """Return uniform numbers inside (0, 1)."""
    drawn = torch.rand(
        like.shape, dtype=like.dtype, device=like.device, generator=generator
    )
    return drawn.clamp(min=_tiny(like))


def _standard_gamma(shape: Tensor, generator: Generator) -> Tensor:
    drawn = torch._standard_gamma(shape.contiguous(), generator=generator)
    return drawn.clamp(min=_tiny(shape))


_SMALL_SHAPE = 0.1


def _log_standard_gamma(shape: Tensor, generator: Generator) -> Tensor:
    """Return logs of gamma draws; for a small shape a draw itself would underflow.

    With g of shape a + 1 and u uniform, g u^(1 / a) has shape a.
    """
    is_small = shape < _SMALL_SHAPE
    drawn = torch.log(
        _standard_gamma(torch.where(is_small, shape + 1.0, shape), generator)
    )
    if not bool(is_small.any()):
        return drawn
    power = -_standard_exponential(shape, generator) / shape
    return torch.where(is_small, drawn + power, drawn)


def _draw_normal(g: Generator, mean: Tensor, scale: Tensor) -> Tensor:
    return mean + scale * _standard_normal(mean, g)


def _draw_laplace(g: Generator, location: Tensor, scale: Tensor) -> Tensor:
    ahead = _standard_exponential(location, g)
    return location + scale * (ahead - _standard_exponential(location, g))


def _draw_gamma(g: Generator, shape: Tensor, rate: Tensor) -> Tensor:
    return (_standard_gamma(shape, g) / rate).clamp(min=_tiny(rate))


def _draw_beta(g: Generator, a: Tensor, b: Tensor) -> Tensor:
    odds = _log_standard_gamma(a, g) - _log_standard_gamma(b, g)
    return torch.sigmoid(odds).clamp(_tiny(a), 1.0 - torch.finfo(a.dtype).eps)


def _draw_exponential(g: Generator, rate: Tensor) -> Tensor:
    return _standard_exponential(rate, g) / rate


def _draw_uniform(g: Generator, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(low + (high - low) * _unit(low, g), high)


def _draw_truncated_normal(
    g: Generator, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return draws by the inverse distribution function, in the lower tail."""
    left, right = ((low - mean) / scale).double(), ((high - mean) / scale).double()
    is_above = left > 0
    first = torch.special.ndtr(torch.where(is_above, -right, left))
    last = torch.special.ndtr(torch.where(is_above, -left, right))
    z = torch.special.ndtri(first + _unit(left, g) * (last - first))
    z = torch.where(is_above, -z, z).to(mean.dtype)
    return torch.minimum(torch.maximum(mean + scale * z, low), high)


def _draw_half_normal(g: Generator, scale: Tensor) -> Tensor:
    return scale * _standard_normal(scale, g).abs()


def _draw_cauchy(g: Generator, location: Tensor, scale: Tensor) -> Tensor:
    return location + scale * torch.tan(math.pi * (_unit(scale, g) - 0.5))


def _draw_half_cauchy(g: Generator, scale: Tensor) -> Tensor:
    return scale * torch.tan(0.5 * math.pi * _unit(scale, g))


def _draw_lognormal(g: Generator, mean: Tensor, scale: Tensor) -> Tensor:
    return torch.exp(_draw_normal(g, mean, scale)).clamp(min=_tiny(mean))


def _draw_inverse_gamma(g: Generator, shape: Tensor, scale: Tensor) -> Tensor:
    drawn = scale / _standard_gamma(shape, g)
    return drawn.clamp(_tiny(scale), torch.finfo(scale.dtype).max)


def _draw_student(g: Generator, nu: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    spread = _standard_gamma(0.5 * nu, g) / (0.5 * nu)
    return location + scale * _standard_normal(location, g) / torch.sqrt(spread)


def _draw_standard_student(g: Generator, nu: Tensor) -> Tensor:
    return _draw_student(g, nu, torch.zeros_like(nu), torch.ones_like(nu))


def _draw_chi_squared(g: Generator, nu: Tensor) -> Tensor:
    return (2.0 * _standard_gamma(0.5 * nu, g)).clamp(min=_tiny(nu))


def _draw_flip(g: Generator, probability: Tensor) -> Tensor:
    drawn = torch.rand(
        probability.shape,
        dtype=probability.dtype,
        device=probability.device,
        generator=g,
    )
    return (drawn < probability).to(probability.dtype)


def _draw_binomial(g: Generator, trials: Tensor, probability: Tensor) -> Tensor:
    return torch.binomial(trials.contiguous(), probability.contiguous(), generator=g)


def _draw_poisson(g: Generator, rate: Tensor) -> Tensor:
    return torch.poisson(rate.contiguous(), generator=g)


def _draw_negative_binomial(
    g: Generator, successes: Tensor, probability: Tensor
) -> Tensor:
    """Return draws as those of a poisson whose rate is a gamma's."""
    odds = (1.0 - probability) / probability
    return torch.poisson(_standard_gamma(successes, g) * odds, generator=g)


def _draw_geometric(g: Generator, probability: Tensor) -> Tensor:
    failures = torch.log(_unit(probability, g)) / torch.log1p(-probability)
    return torch.floor(failures).abs()


def _draw_dirac(_g: Generator, value: Tensor) -> Tensor:
    return value.clone()


def _draw_discrete(g: Generator, weights: Tensor) -> Tensor:
    """Return indices by inverting the cumulative weights; never one of weight zero."""
    cumulative = weights.cumsum(1)
    level = _unit(cumulative[:, -1], g) * cumulative[:, -1]
    index = (cumulative <= level.unsqueeze(1)).sum(1)
    positions = torch.arange(weights.shape[1], device=weights.device)[:, None]
    last = (positions * (weights > 0)).amax(1)
    return torch.minimum(index, last).to(weights.dtype)


def _draw_uniform_discrete(g: Generator, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(low + torch.floor((high - low) * _unit(low, g)), high - 1.0)


def _draw_dirichlet(g: Generator, alpha: Tensor) -> Tensor:
    return torch.softmax(_log_standard_gamma(alpha, g), 1).clamp(min=_tiny(alpha))


def _correlated(g: Generator, like: Tensor, matrix: Tensor) -> Tensor:
    """Return draws [slot, d, row] of a normal with covariance `matrix`."""
    factor, _ = _cholesky(matrix)
    noise = _standard_normal(like, g).movedim(-1, 1).unsqueeze(-1)
    return (factor @ noise).squeeze(-1).movedim(1, -1)


def _draw_mvn(g: Generator, mean: Tensor, covariance: Tensor) -> Tensor:
    return mean + _correlated(g, mean, covariance)


def _draw_multivariate_t(
    g: Generator, nu: Tensor, location: Tensor, scale: Tensor
) -> Tensor:
    spread = _standard_gamma(0.5 * nu, g) / (0.5 * nu)
    drawn = _correlated(g, location, scale)
    return location + drawn / torch.sqrt(spread).unsqueeze(1)


def _draw_wishart(g: Generator, nu: Tensor, scale: Tensor) -> Tensor:
    size = scale.shape[1]
    index = torch.arange(size, dtype=nu.dtype, device=nu.device)[None, :, None]
    freedom = 0.5 * (nu.unsqueeze(1) - index)
    diagonal = torch.sqrt(2.0 * _standard_gamma(freedom, g)).movedim(-1, 1)
    below = _rows_first(_standard_normal(scale, g)).tril(-1)
    factor = _cholesky(scale)[0] @ (below + torch.diag_embed(diagonal))
    return (factor @ factor.mT).movedim(1, -1)


# ------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True)
class Density:
    """A family that can be evaluated and drawn from.

    Attributes:
        family: The bridge's entry.
        parameters: What each parameter must be.
        log_prob: Log density of (value, *parameters).
        sample: Draws from (generator, *parameters); parameters of full shape.
        are_valid: Mask of parameters that only make sense together, and what is
            expected of them; None if each may be judged alone.
        says_nan: Whether `log_prob` is nan by itself where a parameter is not valid.
    """

    family: Family
    parameters: tuple[Parameter, ...]
    log_prob: Callable[..., Tensor]
    sample: Callable[..., Tensor]
    are_valid: tuple[str, Callable[..., Tensor]] | None = None
    says_nan: bool = False

    def validity(self, *parameters: Tensor) -> Tensor:
        """Return the mask [slot, row] of parameters that make a distribution."""
        is_valid = self.parameters[0].is_valid(parameters[0])
        for parameter, value in zip(self.parameters[1:], parameters[1:], strict=True):
            is_valid = is_valid & parameter.is_valid(value)
        if self.are_valid is not None:
            is_valid = is_valid & self.are_valid[1](*parameters)
        return is_valid


_Row = tuple[int, str, Callable[[Tensor], Tensor]]


def _entry(
    name: str,
    rows: tuple[_Row, ...],
    log_prob: Callable[..., Tensor],
    sample: Callable[..., Tensor],
    are_valid: tuple[str, Callable[..., Tensor]] | None = None,
    *,
    says_nan: bool = False,
) -> Density:
    family = NAMES[name]
    parameters = tuple(
        Parameter(parameter, *row)
        for parameter, row in zip(family.parameters, rows, strict=True)
    )
    return Density(family, parameters, log_prob, sample, are_valid, says_nan)


_ORDERED = ("a minimum below the maximum", lambda low, high: low < high)
_BOUNDED = (
    "a minimum below the maximum",
    lambda _mean, _scale, low, high: low < high,
)
_FREEDOM = (
    "more degrees of freedom than rows, less one",
    lambda nu, scale: nu > scale.shape[1] - 1,
)

DENSITIES: Mapping[str, Density] = MappingProxyType(
    {
        density.family.name: density
        for density in (
            _entry(
                "normal", (_NUMBER, _POSITIVE), _normal, _draw_normal, says_nan=True
            ),
            _entry(
                "laplace", (_NUMBER, _POSITIVE), _laplace, _draw_laplace, says_nan=True
            ),
            _entry("gamma", (_POSITIVE, _POSITIVE), _gamma, _draw_gamma),
            _entry("beta", (_POSITIVE, _POSITIVE), _beta, _draw_beta),
            _entry("exponential", (_POSITIVE,), _exponential, _draw_exponential),
            _entry(
                "uniform-continuous",
                (_NUMBER, _NUMBER),
                _uniform,
                _draw_uniform,
                _ORDERED,
            ),
            _entry("uniform", (_NUMBER, _NUMBER), _uniform, _draw_uniform, _ORDERED),
            _entry(
                "truncated-normal",
                (_NUMBER, _POSITIVE, _NUMBER, _NUMBER),
                _truncated_normal,
                _draw_truncated_normal,
                _BOUNDED,
            ),
            _entry("half-normal", (_POSITIVE,), _half_normal, _draw_half_normal),
            _entry("cauchy", (_NUMBER, _POSITIVE), _cauchy, _draw_cauchy),
            _entry("half-cauchy", (_POSITIVE,), _half_cauchy, _draw_half_cauchy),
            _entry("lognormal", (_NUMBER, _POSITIVE), _lognormal, _draw_lognormal),
            _entry(
                "inverse-gamma",
                (_POSITIVE, _POSITIVE),
                _inverse_gamma,
                _draw_inverse_gamma,
            ),
            _entry(
                "student-t", (_POSITIVE,), _standard_student, _draw_standard_student
            ),
            _entry(
                "student-t-loc-scale",
                (_POSITIVE, _NUMBER, _POSITIVE),
                _student,
                _draw_student,
            ),
            _entry("chi-squared", (_POSITIVE,), _chi_squared, _draw_chi_squared),
            _entry("flip", (_PROBABILITY,), _flip, _draw_flip),
            _entry("bernoulli", (_PROBABILITY,), _flip, _draw_flip),
            _entry(
                "binomial",
                ((0, "a whole number of at least 0", _count), _PROBABILITY),
                _binomial,
                _draw_binomial,
            ),
            _entry("poisson", (_POSITIVE,), _poisson, _draw_poisson),
            _entry("geometric", (_CHANCE,), _geometric, _draw_geometric),
            _entry(
                "negative-binomial",
                (_POSITIVE, _CHANCE),
                _negative_binomial,
                _draw_negative_binomial,
            ),
            _entry("discrete", (_WEIGHTS,), _discrete, _draw_discrete),
            _entry("categorical", (_WEIGHTS,), _discrete, _draw_discrete),
            _entry(
                "uniform-discrete",
                ((0, "a whole number", _whole), (0, "a whole number", _whole)),
                _uniform_discrete,
                _draw_uniform_discrete,
                _ORDERED,
            ),
            _entry("dirac", (_NUMBER,), _dirac, _draw_dirac),
            _entry(
                "dirichlet",
                ((1, "positive numbers", _all_positive),),
                _dirichlet,
                _draw_dirichlet,
            ),
            _entry("mvn", (_VECTOR, _MATRIX), _mvn, _draw_mvn),
            _entry(
                "multivariate-t",
                (_POSITIVE, _VECTOR, _MATRIX),
                _multivariate_t,
                _draw_multivariate_t,
            ),
            _entry("wishart", (_POSITIVE, _MATRIX), _wishart, _draw_wishart, _FREEDOM),
        )
    }
)
"""Every family of `daphne_bridge.families.FAMILIES`."""


def event_shape(name: str, shapes: tuple[Shape, ...]) -> Shape:
    """Return the shape of one draw, given the shapes of the parameters."""
    match NAMES[name].event:
        case "scalar":
            return ()
        case "vector":
            return next(shape for shape in shapes if len(shape) == 1)
        case "matrix":
            return next(shape for shape in shapes if len(shape) == 2)

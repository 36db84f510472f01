"""This file holds the families of booleans, counts, indices and single values."""

import torch
from torch import Generator, Tensor

from .density import entry, inside, log_power
from .noise import standard_gamma, unit
from .parameters import (
    CHANCE,
    COUNT,
    NUMBER,
    POSITIVE,
    PROBABILITY,
    RATE,
    WEIGHTS,
    WHOLE,
    is_count,
)

__all__ = ["COUNTS"]


def _flip(x: Tensor, probability: Tensor) -> Tensor:
    is_inside = (x == 0) | (x == 1)
    chance = torch.where(x == 1, probability, 1.0 - probability)
    return inside(is_inside, torch.log(chance))


def _draw_flip(g: Generator, probability: Tensor) -> Tensor:
    drawn = torch.rand(
        probability.shape,
        dtype=probability.dtype,
        device=probability.device,
        generator=g,
    )
    return (drawn < probability).to(probability.dtype)


def _binomial(x: Tensor, trials: Tensor, probability: Tensor) -> Tensor:
    is_inside = (x >= 0) & (x <= trials) & (x == torch.floor(x))
    k = torch.where(is_inside, x, 0.0)
    ways = (
        torch.lgamma(trials + 1.0)
        - torch.lgamma(k + 1.0)
        - torch.lgamma(trials - k + 1.0)
    )
    chance, probability = torch.broadcast_tensors(ways, probability)  # type: ignore[no-untyped-call]
    hits = log_power(k.expand_as(chance), probability)
    misses = log_power(trials - k, 1.0 - probability)
    return inside(is_inside, ways + hits + misses)


def _draw_binomial(g: Generator, trials: Tensor, probability: Tensor) -> Tensor:
    return torch.binomial(trials.contiguous(), probability.contiguous(), generator=g)


def _poisson(x: Tensor, rate: Tensor) -> Tensor:
    is_inside = is_count(x)
    k = torch.where(is_inside, x, 0.0)
    return inside(is_inside, log_power(k, rate) - rate - torch.lgamma(k + 1.0))


def _draw_poisson(g: Generator, rate: Tensor) -> Tensor:
    return torch.poisson(rate.contiguous(), generator=g)


def _negative_binomial(x: Tensor, successes: Tensor, probability: Tensor) -> Tensor:
    is_inside = is_count(x)
    k = torch.where(is_inside, x, 0.0)
    ways = torch.lgamma(k + successes) - torch.lgamma(k + 1.0) - torch.lgamma(successes)
    ways, chance = torch.broadcast_tensors(ways, probability)  # type: ignore[no-untyped-call]
    failures = log_power(k.expand_as(ways), 1.0 - chance)
    return inside(is_inside, ways + successes * torch.log(chance) + failures)


def _draw_negative_binomial(
    g: Generator, successes: Tensor, probability: Tensor
) -> Tensor:
    """Return draws as those of a poisson whose rate is a gamma's."""
    odds = (1.0 - probability) / probability
    return torch.poisson(standard_gamma(successes, g) * odds, generator=g)


def _geometric(x: Tensor, probability: Tensor) -> Tensor:
    return _negative_binomial(x, torch.ones_like(probability), probability)


def _draw_geometric(g: Generator, probability: Tensor) -> Tensor:
    failures = torch.log(unit(probability, g)) / torch.log1p(-probability)
    return torch.floor(failures).abs()


def _discrete(x: Tensor, weights: Tensor) -> Tensor:
    count = weights.shape[1]
    is_inside = (x >= 0) & (x < count) & (x == torch.floor(x))
    index = torch.where(is_inside, x, 0.0).long()
    slots = max(weights.shape[0], x.shape[0])
    rows = max(weights.shape[2], x.shape[1])
    wide = weights.expand(slots, count, rows)
    weight = torch.gather(wide, 1, index.expand(slots, rows).unsqueeze(1)).squeeze(1)
    return inside(is_inside, torch.log(weight) - torch.log(weights.sum(1)))


def _draw_discrete(g: Generator, weights: Tensor) -> Tensor:
    """Return indices by inverting the cumulative weights; never one of weight zero."""
    cumulative = weights.cumsum(1)
    level = unit(cumulative[:, -1], g) * cumulative[:, -1]
    index = (cumulative <= level.unsqueeze(1)).sum(1)
    positions = torch.arange(weights.shape[1], device=weights.device)[:, None]
    last = (positions * (weights > 0)).amax(1)
    return torch.minimum(index, last).to(weights.dtype)


def _uniform_discrete(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    is_inside = (x >= low) & (x < high) & (x == torch.floor(x))
    return inside(is_inside, -torch.log(high - low))


def _draw_uniform_discrete(g: Generator, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(low + torch.floor((high - low) * unit(low, g)), high - 1.0)


def _dirac(x: Tensor, value: Tensor) -> Tensor:
    return inside(x == value, torch.zeros_like(x * value))


def _draw_dirac(_g: Generator, value: Tensor) -> Tensor:
    return value.clone()


_ORDERED = ("a minimum below the maximum", lambda low, high: low < high)


COUNTS = (
    entry("flip", (PROBABILITY,), _flip, _draw_flip),
    entry("bernoulli", (PROBABILITY,), _flip, _draw_flip),
    entry("binomial", (COUNT, PROBABILITY), _binomial, _draw_binomial),
    entry("poisson", (RATE,), _poisson, _draw_poisson),
    entry("geometric", (CHANCE,), _geometric, _draw_geometric),
    entry(
        "negative-binomial",
        (POSITIVE, CHANCE),
        _negative_binomial,
        _draw_negative_binomial,
    ),
    entry("discrete", (WEIGHTS,), _discrete, _draw_discrete),
    entry("categorical", (WEIGHTS,), _discrete, _draw_discrete),
    entry(
        "uniform-discrete",
        (WHOLE, WHOLE),
        _uniform_discrete,
        _draw_uniform_discrete,
        _ORDERED,
    ),
    entry("dirac", (NUMBER,), _dirac, _draw_dirac),
)

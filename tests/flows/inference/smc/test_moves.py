"""Tests of flows.inference.smc.moves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from flows.inference.smc.moves import Hamiltonian, RandomWalk
from flows.inference.smc.point import Point
from flows.inference.smc.schedule import Stage, weighted_factor
from flows.inference.smc.slices import SliceMoves

from ..targets import seeded

MOVES = {
    "random walk": RandomWalk(),
    "hamiltonian": Hamiltonian(),
    "slices": SliceMoves(RandomWalk()),
}


def at_skewed(coordinates):
    """Reference N(0, 1) for both, weight so that π_1 is Gumbel times N(c_0, 0.5)."""
    first, second = coordinates[:, 0], coordinates[:, 1]
    reference = -0.5 * coordinates.square().sum(1)
    log_density = -first - (-first).exp() - 2.0 * (second - first).square()
    return Point(coordinates, coordinates, reference, log_density - reference)


def skewed_draws(num, seed=0):
    generator = seeded(seed)
    uniform = torch.rand(num, dtype=torch.float64, generator=generator)
    first = -(-uniform.log()).log()
    noise = torch.randn(num, dtype=torch.float64, generator=generator)
    return torch.stack([first, first + 0.5 * noise], 1)


@pytest.mark.parametrize("name", MOVES)
def test_moves_keep_the_density(name):
    """Exact draws stay exact after 20 moves: KS p-values above 1e-3, seed fixed."""
    move = MOVES[name]
    start = skewed_draws(8000)
    factor = weighted_factor(start, torch.full((8000,), 1 / 8000, dtype=torch.float64))
    point = at_skewed(start)
    stage = Stage(1.0, factor, move.first_step_size(2), 20)
    generator = seeded(1)
    acceptances = []
    for _ in range(20):
        outcome = move.step(point, at_skewed, stage, generator)
        point = outcome.point
        acceptances.append(outcome.acceptance)
    first, second = point.coordinates.T.numpy()
    assert 0.15 < np.mean(acceptances) < 0.99
    assert stats.kstest(first, stats.gumbel_r.cdf).pvalue > 1e-3
    assert stats.kstest(second - first, stats.norm(0, 0.5).cdf).pvalue > 1e-3
    correlation = np.corrcoef(first, start[:, 0].numpy())[0, 1]
    assert abs(correlation) < 0.2
    torch.testing.assert_close(
        point.log_weight, at_skewed(point.coordinates).log_weight
    )


@pytest.mark.parametrize("name", MOVES)
def test_moves_keep_the_density_of_a_temperature(name):
    """At β = 0 nothing but the reference counts: N(0, 1) stays N(0, 1)."""
    move = MOVES[name]
    start = torch.randn((8000, 2), dtype=torch.float64, generator=seeded(2))
    factor = torch.eye(2, dtype=torch.float64)
    stage = Stage(0.0, factor, move.first_step_size(2), 10)
    point = at_skewed(start)
    generator = seeded(3)
    for _ in range(10):
        point = move.step(point, at_skewed, stage, generator).point
    for column in point.coordinates.T.numpy():
        assert stats.kstest(column, stats.norm.cdf).pvalue > 1e-3


def test_a_short_leapfrog_accepts_almost_all_and_a_long_one_almost_none():
    """The error of the leapfrog falls with the square of its step."""
    point = at_skewed(skewed_draws(500))
    factor = torch.eye(2, dtype=torch.float64)
    rates = [
        Hamiltonian(5)
        .step(point, at_skewed, Stage(1.0, factor, size, 1), seeded())
        .acceptance
        for size in (0.02, 0.2, 40.0)
    ]
    assert rates[0] > 0.995
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] < 0.05


@pytest.mark.parametrize("name", MOVES)
def test_steps_grow_where_much_is_accepted_and_shrink_where_little_is(name):
    move = MOVES[name]
    assert move.adapted(1.0, 1.0) > 1.0
    assert move.adapted(1.0, 0.05) < 1.0


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["log_reference", "log_weight", "latents"])
def test_places_with_a_value_that_is_no_number_are_refused_and_counted(
    name, value, what
):
    """The value stands right of 0, and every particle begins left of it."""

    def at_half(coordinates):
        is_bad = coordinates[:, 0] > 0
        reference = -0.5 * coordinates.square().sum(1)
        point = Point(
            coordinates, coordinates.clone(), reference, torch.zeros_like(reference)
        )
        values = getattr(point, what)
        bad = torch.where(is_bad.reshape(-1, *[1] * (values.ndim - 1)), value, values)
        return replace(point, **{what: bad})

    move = MOVES[name]
    start = -torch.rand((400, 1), dtype=torch.float64, generator=seeded())
    stage = Stage(1.0, torch.ones((1, 1), dtype=torch.float64), 1.0, 1)
    outcome = move.step(at_half(start), at_half, stage, seeded())
    assert outcome.num_divergent > 50
    assert bool((outcome.point.coordinates <= 0).all())
    assert outcome.acceptance > 0.1


def test_the_factor_is_that_of_the_weighted_covariance():
    draws = skewed_draws(300)
    weights = torch.rand(300, dtype=torch.float64, generator=seeded())
    weights[5] = 0.0
    weights /= weights.sum()
    infinite = draws.clone()
    infinite[5] = math.inf
    factor = weighted_factor(infinite, weights)
    expected = np.cov(draws.T.numpy(), aweights=weights.numpy(), bias=True)
    share = (2 * np.square(weights.numpy()).sum()) ** 2
    assert 1e-6 < share < 1e-3
    expected[0, 1] = expected[1, 0] = (1 - share) * expected[0, 1]
    np.testing.assert_allclose((factor @ factor.T).numpy(), expected, rtol=1e-6)


def test_particles_that_all_agree_still_have_a_factor():
    weights = torch.full((10,), 0.1, dtype=torch.float64)
    factor = weighted_factor(torch.ones((10, 3), dtype=torch.float64), weights)
    assert bool(factor.isfinite().all())


def test_the_factor_is_right_to_the_scale_of_each_coordinate():
    """Intercepts of 1e6 beside scales of 1e-4: what is added must not be seen."""
    scale = torch.tensor([1e6, 1e-4], dtype=torch.float64)
    weights = torch.full((300,), 1 / 300, dtype=torch.float64)
    plain = weighted_factor(skewed_draws(300), weights)
    scaled = weighted_factor(skewed_draws(300) * scale, weights)
    torch.testing.assert_close(scaled, scale.unsqueeze(1) * plain, rtol=1e-6, atol=0)

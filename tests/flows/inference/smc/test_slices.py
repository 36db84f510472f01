"""Tests of moves by slices."""

import math

import pytest
import torch
from scipy import stats

from flows.inference.smc.moves import Hamiltonian, RandomWalk
from flows.inference.smc.point import Point
from flows.inference.smc.schedule import Stage, weighted_factor
from flows.inference.smc.slices import SliceMoves

from ..targets import seeded

NUM = 2000
SCALES = (0.2, 3.0)
PLACES = (-4.0, 4.0)


def at_two_widths(coordinates):
    """Reference N(0, 5), weight so that π_1 is N(-4, .2) and N(4, 3) evenly mixed."""
    c = coordinates[:, 0]
    reference = -0.5 * (c / 5.0).square()
    each = [
        -0.5 * ((c - place) / scale).square() - math.log(scale)
        for place, scale in zip(PLACES, SCALES, strict=True)
    ]
    return Point(
        coordinates, coordinates, reference, torch.logaddexp(*each) - reference
    )


def moved(start, move, num_moves):
    weights = torch.full((len(start),), 1.0 / len(start), dtype=torch.float64)
    stage = Stage(1.0, weighted_factor(start, weights), 0.5, num_moves)
    generator, point = seeded(1), at_two_widths(start)
    for _ in range(num_moves):
        point = move.step(point, at_two_widths, stage, generator).point
    return point


def from_the_wide_mode():
    noise = torch.randn((NUM, 1), dtype=torch.float64, generator=seeded(0))
    return PLACES[1] + SCALES[1] * noise


def test_widths_far_apart_get_their_shares():
    point = moved(from_the_wide_mode(), SliceMoves(RandomWalk()), 80)
    values = point.coordinates[:, 0].numpy()
    narrow = values < PLACES[0] + 5.0 * SCALES[0]
    below = [
        stats.norm.cdf(PLACES[0] + 5.0 * SCALES[0], place, scale)
        for place, scale in zip(PLACES, SCALES, strict=True)
    ]
    assert narrow.mean() == pytest.approx(sum(below) / 2.0, abs=0.05)


def test_trajectories_alone_do_not_find_the_narrow_mode():
    point = moved(from_the_wide_mode(), Hamiltonian(16), 40)
    assert (point.coordinates < PLACES[0] + 5.0 * SCALES[0]).double().mean() < 0.2


def test_particles_without_a_density_stay_and_the_others_move():
    def evaluate(coordinates):
        point = at_two_widths(coordinates)
        reference = torch.where(coordinates[:, 0] > 9.0, -torch.inf, 0.0)
        return Point(coordinates, coordinates, reference, point.log_weight)

    start = torch.tensor([[10.0], [3.0], [4.0]], dtype=torch.float64)
    stage = Stage(1.0, torch.eye(1, dtype=torch.float64), 0.1, 1)
    outcome = SliceMoves(RandomWalk()).step(evaluate(start), evaluate, stage, seeded(2))
    after = outcome.point.coordinates
    assert after[0, 0] == 10.0
    assert bool((after[1:] != start[1:]).all())

"""Tests of flows.training.phases."""

from dataclasses import replace

import pytest

from flows.training.config import TrainingConfig
from flows.training.phases import PHASES, annealing, fraction, learning_rate
from flows.training.state import Progress

CONFIG = TrainingConfig(
    budget_seconds=100.0,
    max_iterations=1000,
    warm_start_fraction=0.2,
    warm_start_seconds=5.0,
    learning_rate=1e-2,
    final_learning_rate=1e-4,
)
WARM = Progress(0, 4, "warm start")
MAIN = Progress(0, 4, "training", phase_start=0.2)


def test_budget_is_used_by_the_larger_of_time_and_iterations():
    assert fraction(CONFIG, replace(WARM, iteration=300), 10.0) == 0.3
    assert fraction(CONFIG, replace(WARM, iteration=50), 10.0) == 0.1


@pytest.mark.parametrize(
    ("iteration", "seconds", "is_over"),
    [(0, 0.0, False), (100, 4.9, False), (200, 0.0, True), (0, 5.0, True)],
)
def test_warm_start_ends_by_its_share_or_its_seconds(iteration, seconds, is_over):
    progress = replace(WARM, iteration=iteration)
    share = PHASES["warm start"].share(CONFIG, progress, seconds)
    assert (share >= 1.0) == is_over


def test_without_a_budget_of_time_the_clock_does_not_enter():
    config = replace(CONFIG, budget_seconds=0.0)
    progress = replace(WARM, iteration=100)
    shares = {PHASES["warm start"].share(config, progress, s) for s in (0.0, 1e6)}
    assert shares == {0.5}


def test_rates_fall_by_half_a_cosine_and_are_smaller_after_rollbacks():
    phase = PHASES["training"]
    middle = replace(MAIN, iteration=600)  # half of what the warm start left
    assert phase.share(CONFIG, middle, 0.0) == pytest.approx(0.5)
    rate = learning_rate(phase, CONFIG, middle, 0.0)
    assert rate == pytest.approx((1e-2 + 1e-4) / 2)
    halved = replace(middle, rate_factor=0.5)
    assert learning_rate(phase, CONFIG, halved, 0.0) == pytest.approx(rate / 2)
    end = replace(MAIN, iteration=1000)
    assert learning_rate(phase, CONFIG, end, 0.0) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("iteration", "share"), [(0, 0.01), (100, 0.26), (250, 0.635), (396, 1.0)]
)
def test_free_energy_is_annealed_by_iterations_or_the_share_of_the_budget(
    iteration, share
):
    config = replace(CONFIG, annealing_fraction=0.4, annealing_iterations=1_000_000)
    assert annealing(config, replace(MAIN, iteration=iteration)) == pytest.approx(share)
    config = replace(CONFIG, annealing_fraction=1.0, annealing_iterations=400)
    assert annealing(config, replace(MAIN, iteration=iteration)) == pytest.approx(
        min(1.0, 0.01 + iteration / 400)
    )

"""Tests of flows.training.decisions."""

import math
from dataclasses import replace

import pytest
import torch

from flows.training.certification import Measured, SolverBias
from flows.training.config import TrainingConfig
from flows.training.decisions import (
    due_phase,
    has_risen,
    is_certification_due,
    is_look_due,
    looked_at,
    rolled_back,
    turned_back,
    why_ended,
    with_steps,
)
from flows.training.estimates import estimate_symmetric
from flows.training.phases import objective_of
from flows.training.state import Progress

CONFIG = TrainingConfig(budget_seconds=0.0, max_iterations=100, warm_start_fraction=0.2)
WARM = Progress(seed=0, num_steps=4, phase="warm start")
TRAINING = replace(WARM, phase="training", phase_start=0.2, certifications=1)


def test_the_warm_start_gives_way_at_its_share_of_the_budget():
    assert due_phase(CONFIG, replace(WARM, iteration=19), 0.0).phase == "warm start"
    due = due_phase(CONFIG, replace(WARM, iteration=20), 0.0)
    assert (due.phase, due.phase_start) == ("training", 0.2)
    assert due_phase(CONFIG, TRAINING, 0.0) is TRAINING


def test_a_rollback_halves_the_rate_and_is_counted():
    twice = rolled_back(rolled_back(TRAINING))
    assert (twice.rate_factor, twice.rollbacks) == (0.25, 2)


@pytest.mark.parametrize(
    ("rollbacks", "objective", "is_turned"),
    [(4, "symmetric", False), (5, "symmetric", True), (9, "reverse", False)],
)
def test_the_forward_kl_is_followed_where_j_only_leads_back(
    rollbacks, objective, is_turned
):
    config = replace(CONFIG, objective=objective)
    stuck = replace(TRAINING, rollbacks=rollbacks, rate_factor=0.5**rollbacks)
    found, note = turned_back(config, stuck)
    assert (objective_of(config, found) == "forward") is is_turned
    assert (found.rate_factor == 1.0) is is_turned
    assert bool(note) is is_turned
    assert turned_back(config, replace(found, rollbacks=rollbacks))[1] == ""
    assert turned_back(config, replace(WARM, rollbacks=rollbacks))[1] == ""


@pytest.mark.parametrize(
    ("last", "nats", "risen"),
    [
        (None, 50.0, False),
        (0.0, 0.9, False),
        (0.0, 1.1, True),
        (20.0, 40.0, False),  # such a J is not known well
        (20.0, 42.0, True),
        (0.0, math.nan, True),
    ],
)
def test_j_has_risen_where_it_is_far_above_the_last_one(last, nats, risen):
    assert has_risen(replace(TRAINING, last=last), nats) is risen
    assert not has_risen(replace(WARM, last=last), nats)


@pytest.mark.parametrize("place", [1e12, math.inf, math.nan])
@pytest.mark.parametrize(
    ("far", "objective", "followed"),
    [
        (49, "symmetric", "symmetric"),
        (51, "symmetric", "forward"),
        (51, "reverse", "reverse"),
    ],
)
def test_the_forward_kl_is_followed_where_many_draws_lie_far_out(
    far, objective, followed, place
):
    reverse = torch.zeros(1000)
    reverse[:far] = place
    found = estimate_symmetric(torch.full((1000,), -3.0), reverse)
    measured = Measured(found.symmetric, found, None, None)
    config = replace(CONFIG, objective=objective)
    progress, note = looked_at(config, replace(TRAINING, best_score=1.0), measured)
    assert objective_of(config, progress) == followed
    changed = followed != objective
    assert ("5% of the flow's draws lie far out" in note) is changed
    assert progress.best_score == (None if changed else 1.0)
    assert measured.score("forward") == -3.0
    assert measured.score("symmetric") == pytest.approx(-1.5 + far / 10)


@pytest.mark.parametrize(
    ("before", "iteration", "is_far", "by_likelihood", "by_matching"),
    [
        (WARM, 20, False, True, False),
        (WARM, 60, False, True, True),
        (TRAINING, 40, False, False, False),
        (TRAINING, 60, False, False, True),
        (TRAINING, 60, True, False, False),
        (TRAINING, 100, False, False, False),
    ],
)
def test_flow_matching_leaves_draws_far_out_that_are_looked_at_later(
    before, iteration, is_far, by_likelihood, by_matching
):
    now = replace(TRAINING, iteration=iteration, is_far=is_far)
    for is_solved, due in ((False, by_likelihood), (True, by_matching)):
        assert is_look_due(CONFIG, before, now, 0.0, is_solved=is_solved) is due


@pytest.mark.parametrize(("iteration", "due"), [(39, False), (40, True), (100, True)])
def test_certifications_lie_evenly_in_the_phase_of_training(iteration, due):
    progress = replace(TRAINING, iteration=iteration)
    assert is_certification_due(CONFIG, progress, 0.0) is due


@pytest.mark.parametrize(
    ("bulk", "nats", "has_j", "num_steps"),
    [
        (0.009, 0.0, True, 4),
        (0.011, 0.0, True, 5),
        (0.011, 1.0, True, 4),  # small beside the objective
        (0.011, 1.0, False, 5),  # the objective's value has no meaning
        (math.inf, 0.0, True, 5),  # only the finer solve ends
        (math.nan, 0.0, True, 4),  # no row has a density
    ],
)
def test_steps_are_raised_where_the_solver_is_seen(bulk, nats, has_j, num_steps):
    bias = SolverBias(coarse=0.0, fine=0.0, bulk=bulk)
    raised, note = with_steps(CONFIG, TRAINING, bias, nats, has_j=has_j)
    assert raised.num_steps == num_steps
    assert note == ("" if num_steps == 4 else "; more solver steps: 5")


@pytest.mark.parametrize(
    ("iteration", "seconds", "upper", "why"),
    [
        (50, 10.0, 1.0, ""),
        (50, 10.0, 0.004, "ended: certified J below 0.005 nats"),
        (100, 10.0, math.inf, "ended: budget used"),
        (50, 30.0, 1.0, "ended: no better certified J for 20 s"),
    ],
)
def test_training_ends_for_three_reasons(iteration, seconds, upper, why):
    config = replace(CONFIG, patience_seconds=20.0)
    progress = replace(TRAINING, iteration=iteration, best_seconds=5.0)
    assert why_ended(config, progress, seconds, upper) == why

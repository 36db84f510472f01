"""Tests of flows.training.economy."""

import pytest

from flows.flow.structure import StateBlock, Structure
from flows.training.config import TrainingConfig
from flows.training.economy import certified_in_time, preparing_draws

NARROW = Structure((StateBlock("z", (0,), 0, (), (0,)),), 1)
WIDE = Structure(
    tuple(
        StateBlock(f"z{i}", (i,), 0, tuple(range(i)), tuple(range(50)))
        for i in range(141)
    ),
    50,
)


def _timed(first, later, asked):
    """Certifies in so many seconds per draw, the first time in others."""

    def certify(num_draws):
        each = later if asked else first
        asked.append(num_draws)
        return f"by {num_draws}", each * num_draws

    return certify


def test_small_models_and_runs_without_a_budget_of_time_get_all_preparing_draws():
    short = TrainingConfig(budget_seconds=10.0)
    endless = TrainingConfig(budget_seconds=0.0, max_iterations=10)
    assert preparing_draws(short, NARROW, 30) == short.normalisation_draws
    assert preparing_draws(endless, WIDE, 5_000) == endless.normalisation_draws


def test_preparing_draws_grow_with_the_budget_and_fall_with_the_work_of_one():
    ten, minute = (TrainingConfig(budget_seconds=each) for each in (10.0, 60.0))
    few, many = (preparing_draws(each, WIDE, 5_000) for each in (ten, minute))
    assert 1_000 < few < many < ten.normalisation_draws
    assert many == pytest.approx(6 * few, rel=0.01)
    assert preparing_draws(ten, WIDE, 500_000) < few


@pytest.mark.parametrize(
    ("first", "later", "draws", "asked"),
    [
        (0.001, 0.001, 600, [10, 60, 600]),  # cheap: 0.6 s; 2.4 s are allowed
        (0.1, 0.001, 600, [10, 60, 600]),  # only dear for being the first
        (0.02, 0.02, 120, [10, 60, 60, 120]),  # 2.4 s: fewer draws
        (0.06, 0.06, 60, [10, 60, 60]),  # 3.6 s by the fewest: these will do
        (0.4, 0.4, 60, [10, 60]),  # too dear: never again
        (1.0, 1.0, 10, [10]),  # far too dear: by a handful
    ],
)
def test_a_flow_is_certified_by_as_many_draws_as_time_allows(
    first, later, draws, asked
):
    config, calls = TrainingConfig(budget_seconds=60.0, certify_draws=600), []
    found, seconds, used = certified_in_time(config, _timed(first, later, calls))
    assert (found, used, calls) == (f"by {draws}", draws, asked)
    assert seconds == pytest.approx(draws * (later if len(asked) > 1 else first))


def test_without_a_budget_of_time_a_flow_is_certified_by_all_draws_at_once():
    config = TrainingConfig(budget_seconds=0.0, max_iterations=9, certify_draws=600)
    calls = []
    assert certified_in_time(config, _timed(9.0, 9.0, calls))[2] == 600
    assert calls == [600]

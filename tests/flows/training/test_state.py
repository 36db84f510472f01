"""Tests of flows.training.state."""

import pytest

from flows.errors import ArgumentError
from flows.training.state import Progress

PROGRESS = Progress(seed=3, num_steps=4, phase="training", iteration=7, best=0.5)


def test_an_older_run_goes_on_with_defaults_for_what_it_lacks():
    values = PROGRESS.as_values()
    assert Progress.from_values(values, 3) == PROGRESS
    for name in ("best_ess", "best_error", "best_lost"):
        del values[name]
    assert Progress.from_values(values, 3) == PROGRESS


def test_values_that_are_not_known_are_refused():
    values = PROGRESS.as_values() | {"speed": 3.0}
    with pytest.raises(ArgumentError, match=r"another version .* got other .*speed"):
        Progress.from_values(values, 3)

"""Tests of flows.front.clock."""

import math
import time

import pytest

from flows.front.clock import Clock, OutOfTime


def test_a_clock_without_a_budget_is_never_over():
    clock = Clock(math.inf, started=time.perf_counter() - 1e6)
    clock.check()
    assert clock.passed > 1e5
    assert clock.left == math.inf


def test_a_clock_is_over_once_its_seconds_have_passed():
    clock = Clock(10.0, started=time.perf_counter() - 11.0)
    assert clock.is_over()
    with pytest.raises(OutOfTime):
        clock.check()
    assert not Clock(10.0).is_over()


def test_a_clock_tells_how_far_the_work_is_or_nobody():
    told = []
    Clock(10.0, lambda *said: told.append(said)).say(0.5, "half")
    Clock(10.0).say(0.5, "half")
    assert told == [(0.5, "half")]

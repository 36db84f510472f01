"""Tests of flows.cnf.fused.readiness: compiling the kernel, with notice."""

import pytest

from flows.cnf.fused import compile as fused_compile
from flows.cnf.fused import readiness
from flows.cnf.fused import tiles as fused_tiles


def test_warm_up_says_when_it_compiles(monkeypatch):
    calls = []
    readiness.warm_up(lambda: calls.append("compiling"))
    first = len(calls)
    readiness.warm_up(lambda: calls.append("compiling"))
    assert len(calls) == first <= 1
    assert fused_compile.is_compiled()
    monkeypatch.setattr(fused_tiles, "target", lambda: ("another processor", ""))
    assert not fused_compile.is_compiled()


def test_a_cache_that_fails_is_dropped(monkeypatch):
    """The kernel is compiled anew; if that fails too, it is said not to be usable."""
    solve, calls = readiness._solve_one, []

    def fail_once():
        calls.append("solve")
        if len(calls) == 1:
            raise EOFError("ran out of input")
        solve()

    monkeypatch.setattr(readiness, "_solve_one", fail_once)
    monkeypatch.setattr(readiness, "compile_afresh", lambda: calls.append("afresh"))
    readiness.warm_up()
    assert calls == ["solve", "afresh", "solve"]

    def fail():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(readiness, "_solve_one", fail)
    readiness.is_usable.cache_clear()
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert not readiness.is_usable()
    readiness.is_usable.cache_clear()

"""Tests of flows.kernels.kernel_set: compiling a kernel with notice, and its cache."""

from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from flows.autoregressive.fused import readiness as autoregressive_readiness
from flows.autoregressive.fused.compile import KERNEL as AUTOREGRESSIVE
from flows.cnf.fused import readiness
from flows.cnf.fused.compile import KERNEL
from flows.kernels import tiles
from flows.kernels.cache import kept_in
from flows.kernels.kernel_set import KernelSet


@tiles.compiled
def doubled(values):
    """Something to compile."""
    for at in range(0, values.size, tiles.LANES):
        value = tiles.load(values, at)
        tiles.store(values, at, value + value)


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    monkeypatch.setattr(KernelSet, "folder", tmp_path / "kernel")
    return KernelSet("the doubling kernel", [], [doubled])


def run_once(kernel):
    values = np.ones(16, dtype=np.float32)
    kernel.compiled.doubled(values)
    assert (values == 2.0).all()


@pytest.mark.parametrize("kernel", [KERNEL, AUTOREGRESSIVE])
def test_folder_changes_with_any_source(monkeypatch, tmp_path, kernel):
    before = kernel.folder
    names = {module.__name__ for module in kernel.sources}
    for module in kernel.sources:
        source = Path(module.__file__)
        changed = tmp_path / source.name
        changed.write_bytes(source.read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(changed))
            assert before != kernel.folder
        imported = {
            getattr(value, "__module__", None) or getattr(value, "__name__", None)
            for value in vars(module).values()
        }
        of_kernels = ("flows.cnf.fused", "flows.autoregressive.fused", "flows.kernels")
        assert {name for name in imported if str(name).startswith(of_kernels)} <= names
    assert before == kernel.folder


def test_dropping_the_cache_removes_its_folder(kernel):
    with kept_in(kernel.folder) as is_kept:
        assert is_kept
    kernel.mark_compiled()
    assert kernel.is_compiled
    kernel.compile_afresh()
    assert not kernel.folder.exists()
    kernel.mark_compiled()
    assert not kernel.is_compiled
    run_once(kernel)


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert KERNEL.folder is None
    assert not KERNEL.is_compiled
    KERNEL.mark_compiled()


def test_warm_up_says_when_it_compiles(monkeypatch, kernel):
    calls = []
    for _ in range(2):
        kernel.warm_up(lambda: run_once(kernel), lambda: calls.append("compiling"))
        assert calls == ["compiling"]
    assert kernel.is_compiled
    monkeypatch.setattr(tiles, "target", lambda: ("another processor", ""))
    assert not kernel.is_compiled


def test_a_kernel_that_cannot_be_kept_says_so_and_where_it_could_be(
    monkeypatch, tmp_path
):
    """The remedy that is named works."""
    (tmp_path / "file").write_text("no folder")
    kernel = KernelSet("the doubling kernel", [], [doubled])
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match=r"every run .* set NUMBA_CACHE_DIR"):
        kernel.warm_up(lambda: run_once(kernel))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "place"))
    again = KernelSet("the doubling kernel", [], [doubled])
    again.warm_up(lambda: run_once(again))
    assert again.is_compiled


def test_a_cache_that_fails_is_dropped(monkeypatch, kernel):
    """It is compiled anew; if that fails too, it is said not to be usable."""
    calls = []

    def fail_once():
        calls.append("trial")
        if len(calls) == 1:
            raise EOFError("ran out of input")
        run_once(kernel)

    monkeypatch.setattr(kernel, "compile_afresh", lambda: calls.append("afresh"))
    monkeypatch.setattr(kernel, "has_cache", False)  # as it leaves it
    with pytest.warns(RuntimeWarning, match=r"every run .* set NUMBA_CACHE_DIR"):
        kernel.warm_up(fail_once)
    assert calls == ["trial", "afresh", "trial"]

    def fail():
        raise OSError(28, "No space left on device")

    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert not kernel.is_usable(fail)
    assert not kernel.is_usable(lambda: run_once(kernel))  # found out once


def test_the_fused_kernel_is_usable_here():
    assert readiness.is_usable()
    assert KERNEL.is_compiled


@pytest.mark.parametrize(
    ("kernel", "trial"),
    [
        (KERNEL, readiness._solve_one),
        (AUTOREGRESSIVE, autoregressive_readiness._score_one),
    ],
)
def test_a_trial_leaves_nothing_to_compile_in_training(monkeypatch, kernel, trial):
    monkeypatch.delitem(vars(kernel), "compiled", raising=False)
    kernel.warm_up(trial)
    functions = {**vars(kernel.compiled)}
    del functions["linked"]
    assert [name for name, each in functions.items() if not each.signatures] == []

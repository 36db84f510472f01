"""Tests of flows.cnf.fused.compile: the kernel's cache."""

from pathlib import Path

from flows.cnf.fused import compile as fused_compile
from flows.kernels.cache import kept_in


def test_cache_folder_changes_with_any_source_of_the_kernel(monkeypatch, tmp_path):
    before = fused_compile.cache_folder()
    names = [module.__name__ for module in fused_compile.SOURCES]
    for module in fused_compile.SOURCES:
        source = Path(module.__file__)
        changed = tmp_path / source.name
        changed.write_bytes(source.read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(changed))
            assert fused_compile.cache_folder() != before
        imported = {
            getattr(value, "__module__", None) or getattr(value, "__name__", None)
            for value in vars(module).values()
        }
        kernel_modules = {name for name in imported if "cnf.fused" in str(name)}
        assert kernel_modules <= set(names)
    assert fused_compile.cache_folder() == before


def test_dropping_the_cache_removes_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(fused_compile, "cache_folder", lambda: tmp_path / "kernel")
    monkeypatch.setattr(fused_compile, "_PROCESS", fused_compile._Process())
    with kept_in(tmp_path / "kernel") as is_kept:
        assert is_kept
    fused_compile.mark_compiled()
    assert fused_compile.is_compiled()
    fused_compile.compile_afresh()
    assert not (tmp_path / "kernel").exists()
    fused_compile.mark_compiled()
    assert not fused_compile.is_compiled()
    fused_compile.kernels.cache_clear()


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert fused_compile.cache_folder() is None
    assert not fused_compile.is_compiled()
    fused_compile.mark_compiled()

"""This file compiles the fused kernel, and keeps it in the user's cache folder.

Numba's cache does not see a change in an imported module, so the folder's name holds a
hash of all sources of the kernel. Numba writes each file beside and renames it. Where
there is no such folder, or it cannot be written, every process compiles for itself.
"""

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config

from . import (
    arrays,
    block_product,
    chains,
    cubic,
    emitter,
    flat,
    kernel,
    lane_sums,
    layers,
    outer_product,
    places,
    plan,
    tables,
    tiles,
    trace,
    transposed_layers,
)

__all__ = [
    "SOURCES",
    "Kernels",
    "cache_folder",
    "compile_afresh",
    "is_compiled",
    "kernels",
    "mark_compiled",
]

SOURCES = (
    *(arrays, block_product, chains, cubic, emitter, flat, kernel, lane_sums, layers),
    *(outer_product, places, plan, tables, tiles, trace, transposed_layers),
)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled functions of `kernel.py`, and what they call."""

    linked: tuple[object, ...]
    fill_tables: Any
    adjoint_tables: Any
    solve_pack: Any
    adjoint_pack: Any


@dataclass(slots=True)
class _Process:
    """What this process has found out.

    Args:
        has_cache: whether the cache folder may be used.
    """

    has_cache: bool = True


_PROCESS = _Process()


@cache
def kernels() -> Kernels:
    """The kernel, with Numba's cache in the folder of these sources' hash."""
    functions = {
        name: getattr(module, name).py_func
        for module, name in (
            (tables, "fill_tables"),
            (tables, "adjoint_tables"),
            (kernel, "solve_pack"),
            (kernel, "adjoint_pack"),
        )
    }
    folder = cache_folder()
    settings: Any = config  # its fields are made at run time
    options: dict[str, Any] = dict(tiles.OPTIONS)
    options["cache"] = _PROCESS.has_cache and _can_write(folder)
    before = settings.CACHE_DIR
    if options["cache"]:
        settings.CACHE_DIR = str(folder)  # read when a function is declared
    try:
        linked = tuple(
            function.link(cache=options["cache"])
            for function in (block_product.PRODUCT, outer_product.OUTER, lane_sums.FOLD)
        )
        compiled = {name: numba.njit(**options)(f) for name, f in functions.items()}
        return Kernels(linked=linked, **compiled)
    finally:
        settings.CACHE_DIR = before


def compile_afresh() -> None:
    """Drop a cache that does not load or cannot be written; do without it from now."""
    _PROCESS.has_cache = False
    folder = cache_folder()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    kernels.cache_clear()


def cache_folder() -> Path | None:
    """Folder for this version of the kernel; None if this user has no place for it."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for module in SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    base = _base_folder()
    return base and base / "daphne-flows" / digest.hexdigest()[:16]


def _base_folder() -> Path | None:
    """Where this user's programs keep what can be made again."""
    settings: Any = config  # its fields are made at run time
    if settings.CACHE_DIR:
        return Path(settings.CACHE_DIR)
    given = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME")
    named = Path(os.environ.get(given, ""))
    if named.is_absolute():
        return named
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry and without HOME
        return None
    usual = {"win32": "AppData/Local", "darwin": "Library/Caches"}
    return home / usual.get(sys.platform, ".cache")


def _can_write(folder: Path | None) -> bool:
    if folder is None:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def is_compiled() -> bool:
    """Whether the kernel can be used on this machine without compiling it."""
    folder = cache_folder()
    # Numba reads no cache that it could not write.
    return (
        folder is not None
        and (folder / _marker()).exists()
        and os.access(folder, os.W_OK)
    )


def mark_compiled() -> None:
    """Note that the kernel was compiled for this processor."""
    folder = cache_folder()
    if _PROCESS.has_cache and folder is not None and folder.is_dir():
        with suppress(OSError):
            (folder / _marker()).touch()


def _marker() -> str:
    """Name of the file that says the kernel was compiled for this processor."""
    digest = hashlib.sha256(repr(tiles.target()).encode())
    return f"compiled-{digest.hexdigest()[:16]}"

"""This file compiles the fused kernel, and keeps it in the user's cache folder."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numba

from ...kernels.cache import folder_of, kept_in
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
    with kept_in(cache_folder() if _PROCESS.has_cache else None) as is_kept:
        options = {**tiles.OPTIONS, "cache": is_kept}
        linked = tuple(
            function.link(cache=is_kept)
            for function in (block_product.PRODUCT, outer_product.OUTER, lane_sums.FOLD)
        )
        compiled = {name: numba.njit(**options)(f) for name, f in functions.items()}
        return Kernels(linked=linked, **compiled)


def compile_afresh() -> None:
    """Drop a cache that does not load or cannot be written; do without it from now."""
    _PROCESS.has_cache = False
    folder = cache_folder()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    kernels.cache_clear()


def cache_folder() -> Path | None:
    """Folder for this version of the kernel; None if this user has no place for it."""
    return folder_of(SOURCES)


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

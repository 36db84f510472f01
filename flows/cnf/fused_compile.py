"""This file compiles the fused kernel, and keeps it in the user's cache folder.

Numba's cache does not see a change in an imported module, so the folder's name holds a
hash of all sources of the kernel. Numba writes each file beside and renames it.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config

from . import (
    fused_kernel,
    fused_plan,
    fused_products,
    fused_tables,
    fused_tiles,
    fused_trace,
)

__all__ = [
    "SOURCES",
    "Kernels",
    "cache_folder",
    "is_compiled",
    "kernels",
    "mark_compiled",
]

SOURCES = (
    fused_kernel,
    fused_plan,
    fused_products,
    fused_tables,
    fused_tiles,
    fused_trace,
)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled functions of `fused_kernel.py`, and what they call."""

    linked: tuple[object, ...]
    fill_tables: Any
    adjoint_tables: Any
    solve_pack: Any
    adjoint_pack: Any


@cache
def kernels() -> Kernels:
    """The kernel, with Numba's cache in the folder of these sources' hash."""
    functions = {
        name: getattr(module, name).py_func
        for module, name in (
            (fused_tables, "fill_tables"),
            (fused_tables, "adjoint_tables"),
            (fused_kernel, "solve_pack"),
            (fused_kernel, "adjoint_pack"),
        )
    }
    folder = cache_folder()
    settings: Any = config  # its fields are made at run time
    options: dict[str, Any] = dict(fused_tiles.OPTIONS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        options["cache"] = os.access(folder, os.W_OK)
    except OSError:
        options["cache"] = False
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)  # read when a function is declared
    try:
        linked = fused_products.link(cache=options["cache"])
        compiled = {name: numba.njit(**options)(f) for name, f in functions.items()}
        return Kernels(linked=linked, **compiled)
    finally:
        settings.CACHE_DIR = before


def cache_folder() -> Path:
    """Folder for this version of the kernel; other versions have other folders."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for module in SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    settings: Any = config  # its fields are made at run time
    if settings.CACHE_DIR:
        base = Path(settings.CACHE_DIR)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "daphne-flows" / digest.hexdigest()[:16]


def is_compiled() -> bool:
    """Whether the kernel can be used on this machine without compiling it."""
    return (cache_folder() / _marker()).exists()


def mark_compiled() -> None:
    """Note that the kernel was compiled for this processor."""
    if cache_folder().is_dir():
        (cache_folder() / _marker()).touch()


def _marker() -> str:
    """Name of the file that says the kernel was compiled for this processor."""
    digest = hashlib.sha256(repr(fused_tiles.target()).encode())
    return f"compiled-{digest.hexdigest()[:16]}"

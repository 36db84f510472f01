"""This file compiles the functions of a kernel together, with notice, and keeps them.

Machine code stands in the user's cache folder under a hash of the kernel's sources
(`cache.py`). A damaged or full cache is dropped, and done without from then on.
"""

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numba

from . import block_product, emitter, lane_sums, lanes, outer_product, tiles
from .cache import folder_of, kept_in

__all__ = ["KernelSet"]

_SHARED = (block_product, emitter, lane_sums, lanes, outer_product, tiles)
_LINKED = (block_product.PRODUCT, outer_product.OUTER, lane_sums.FOLD)


class KernelSet:
    """A kernel's functions.

    Args:
        title: what it is called in a warning.
        sources: its own modules, whose text decides the folder; those of this package
            that kernels are made of are added.
        functions: what is compiled, kept by its name.
    """

    def __init__(
        self,
        title: str,
        sources: Sequence[ModuleType],
        functions: Sequence[Any],
    ) -> None:
        self.title = title
        self.sources = (*_SHARED, *sources)
        self.has_cache = True
        self._plain = [function.py_func for function in functions]
        self._is_usable: bool | None = None

    @cached_property
    def compiled(self) -> SimpleNamespace:
        """The functions by name, with Numba's cache in the folder of the sources."""
        with kept_in(self.folder if self.has_cache else None) as is_kept:
            options = {**tiles.OPTIONS, "cache": is_kept}
            linked = tuple(function.link(cache=is_kept) for function in _LINKED)
            functions = {f.__name__: numba.njit(**options)(f) for f in self._plain}
            return SimpleNamespace(linked=linked, **functions)

    @property
    def folder(self) -> Path | None:
        """Where this version is kept; None if this user has no place for it."""
        return folder_of(self.sources)

    @property
    def is_compiled(self) -> bool:
        """Whether it can be used on this machine without compiling it."""
        folder = self.folder
        # Numba reads no cache that it could not write.
        return (
            folder is not None
            and (folder / _marker()).exists()
            and os.access(folder, os.W_OK)
        )

    def mark_compiled(self) -> None:
        """Note that it was compiled for this processor."""
        folder = self.folder
        if self.has_cache and folder is not None and folder.is_dir():
            with suppress(OSError):
                (folder / _marker()).touch()

    def compile_afresh(self) -> None:
        """Drop a cache that does not load or cannot be written; do without it."""
        self.has_cache = False
        folder = self.folder
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self.__dict__.pop("compiled", None)

    def warm_up(
        self, trial: Callable[[], None], on_compile: Callable[[], None] | None = None
    ) -> None:
        """Compile it, or read it from the cache.

        Args:
            trial: runs all of it once.
            on_compile: called first if it has to be compiled (some seconds, once, or
                in every run where it cannot be kept, which a warning says).
        """
        was_compiled = self.is_compiled
        if not was_compiled and on_compile is not None:
            on_compile()
        try:
            trial()
        except Exception:  # a damaged or a full cache shows itself in many ways
            was_compiled = False
            self.compile_afresh()
            trial()
        if not was_compiled:
            self.mark_compiled()
            self._say_whether_kept()

    def _say_whether_kept(self) -> None:
        """Warn where every run compiles, as there is no place to keep what it made."""
        if not self.is_compiled:
            place = self.folder or "a home folder, as there is none"
            warnings.warn(
                f"{self.title} cannot be kept in {place}: every run compiles it, which "
                "takes some seconds; set NUMBA_CACHE_DIR to a folder that can be "
                "written",
                RuntimeWarning,
                stacklevel=4,
            )

    def is_usable(
        self, trial: Callable[[], None], on_compile: Callable[[], None] | None = None
    ) -> bool:
        """Whether it runs on this machine; warns once if it does not.

        Args:
            trial: see `warm_up`.
            on_compile: see `warm_up`.
        """
        if self._is_usable is None:
            self._is_usable = self._tried(trial, on_compile)
        return self._is_usable

    def _tried(
        self, trial: Callable[[], None], on_compile: Callable[[], None] | None
    ) -> bool:
        try:
            self.warm_up(trial, on_compile)
        except Exception as error:  # Numba may be broken in many ways
            warnings.warn(
                f"{self.title} cannot be used here ({type(error).__name__}: "
                f"{str(error)[:200]}); work goes on without it, which takes longer",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        return True


def _marker() -> str:
    """Name of the file that says that the kernel was compiled for this processor."""
    digest = hashlib.sha256(repr(tiles.target()).encode())
    return f"compiled-{digest.hexdigest()[:16]}"

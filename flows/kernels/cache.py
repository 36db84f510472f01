"""This file keeps machine code that Numba made in the user's cache folder.

Numba's cache does not see a change in an imported module, so a folder's name holds a
hash of all sources. Numba writes each file beside and renames it. Where there is no
such folder, or it cannot be written, every process compiles for itself.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
import numba
from numba.core import config

__all__ = ["compiled", "folder_of", "kept_in"]


def folder_of(sources: Sequence[ModuleType]) -> Path | None:
    """Return the folder of these sources; None if this user has no place for it."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for module in sources:
        digest.update(Path(str(module.__file__)).read_bytes())
    base = _base_folder()
    return base and base / "daphne-flows" / digest.hexdigest()[:16]


@contextmanager
def kept_in(folder: Path | None) -> Iterator[bool]:
    """Have functions that are declared meanwhile keep their code in a folder.

    Yields:
        Whether it can be written; Numba reads no cache that it could not write.
    """
    settings: Any = config  # its fields are made at run time
    before = settings.CACHE_DIR
    is_kept = folder is not None and _can_write(folder)
    if is_kept:
        settings.CACHE_DIR = str(folder)  # read when a function is declared
    try:
        yield is_kept
    finally:
        settings.CACHE_DIR = before


def compiled(
    loop: Callable[..., Any], sources: Sequence[ModuleType], options: dict[str, Any]
) -> Any:
    """Return a loop that Numba compiles, its code kept in the folder of its sources."""
    with kept_in(folder_of(sources)) as is_kept:
        return numba.njit(loop, cache=is_kept, **options)


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


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)

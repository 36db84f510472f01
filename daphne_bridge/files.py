"""This file puts a file in its place, whole or not at all.

A file is written beside its place, flushed to disk and renamed. Whoever is killed in
between leaves the old content or the new one, and at most a hidden sibling
`.NAME.*.part`, which the next call removes: a lock that ends with its process says
which siblings are still being written.
"""

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import BridgeError, Problem

__all__ = [
    "PART",
    "cannot_write",
    "check_file_place",
    "check_no_input",
    "check_writable",
    "locked",
    "new_file",
    "prefix_beside",
    "remove_abandoned",
]

PART = ".part"
"""Ending of what is not yet in its place."""

_EXPECTED = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EFBIG: "a file system that takes larger files",
    errno.ENAMETOOLONG: "a shorter name",
    errno.EACCES: "a place that you may write to",
    errno.EPERM: "a place that you may write to",
    errno.EROFS: "a place that you may write to",
}


@contextmanager
def new_file(path: Path, error: type[BridgeError]) -> Iterator[BinaryIO]:
    """Yield a file to write; it takes the place of `path` when all is done.

    Args:
        path: The place.
        error: What is raised if it cannot be written.
    """
    check_file_place(path, error)
    try:
        remove_abandoned(path)
        handle, name = tempfile.mkstemp(
            prefix=prefix_beside(path), suffix=PART, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            with temporary.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
                file.flush()
                os.fsync(file)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as problem:
        raise error(cannot_write(path, problem)) from None


def check_file_place(path: Path, error: type[BridgeError]) -> None:
    """Raise an error unless `new_file` may use a place."""
    try:
        # Renaming over a device or a link would destroy it.
        is_plain = not path.is_symlink() and (path.is_file() or not path.exists())
    except OSError as problem:
        raise error(cannot_write(path, problem)) from None
    if not is_plain:
        raise error(Problem(str(path), "this is no plain file", "a new or plain file"))
    check_writable(path, error)


def check_no_input(
    path: Path, inputs: Iterable[Path | None], error: type[BridgeError]
) -> None:
    """Raise an error if a file to write is one that the same command reads.

    Args:
        path: The place.
        inputs: What is read; None stands for an input that was not given.
        error: What is raised.
    """
    for each in inputs:
        if each is not None and _is_same(path, each):
            what = "cannot be written: it is an input of the command"
            raise error(Problem(str(path), what, "another place", str(each)))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def check_writable(path: Path, error: type[BridgeError]) -> None:
    """Make a file beside a place and remove it, which no look at rights can replace."""
    if str(path) == "-":
        what = "standard output takes no documents; they are written to files"
        raise error(Problem("-", what, "the name of a file"))
    if not path.parent.is_dir():
        what = "cannot be written: its folder does not exist"
        raise error(Problem(str(path), what, str(path.parent)))
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=prefix_beside(path), suffix=PART, dir=path.parent
        )
        os.close(handle)
        Path(temporary).unlink()
    except OSError as problem:
        raise error(cannot_write(path, problem)) from None


def cannot_write(path: Path, error: OSError) -> Problem:
    """Return what the system says against writing to a place."""
    what = f"cannot be written: {error.strerror or error}"
    expected = _EXPECTED.get(error.errno or 0, "a place in an existing folder")
    return Problem(str(path), what, expected)


def prefix_beside(path: Path) -> str:
    """Return how the names of what becomes `path` begin."""
    return f".{path.name}."


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a path, which ends with the process, however it ends."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_abandoned(path: Path) -> None:
    """Remove what processes that are gone have left beside a place."""
    for each in path.parent.glob(f"{glob.escape(prefix_beside(path))}*{PART}"):
        try:
            with locked(each):
                if each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue

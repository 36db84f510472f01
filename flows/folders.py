"""This file puts files and folders in their place, whole or not at all.

A file is written beside its place, flushed to disk and renamed; a folder is filled
beside its place and swapped in. Whoever is killed in between leaves the old content or
the new one, and at most a hidden sibling that the next call removes.
"""

import ctypes
import fcntl
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from .errors import ArtifactError, Problem

# Of the Linux call renameat2: paths as they are, and both names swap in one step.
_HERE = -100
_RENAME_EXCHANGE = 2

_PART = ".part"

__all__ = [
    "check_file_place",
    "check_folder_place",
    "new_folder",
    "read_file",
    "write_file",
    "write_folder",
]


def _fail(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        Problem(
            str(path),
            f"cannot be written: {error.strerror}",
            "a place in an existing folder",
        )
    )


def read_file(path: Path, what: str, *, limit: int) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        what: What it should be, for the message.
        limit: Most bytes to read.

    Raises:
        ArtifactError: If there is no such file, if it is a folder, a device or a pipe,
            or if it is larger than `limit`.
    """
    try:
        # Opening a pipe would wait for its writer, reading a device might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ArtifactError(Problem(str(path), "this is no plain file", what))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ArtifactError(
                    Problem(
                        str(path), f"{what} is too large", f"{limit} bytes", f"{size}"
                    )
                )
            return file.read(limit + 1)
    except FileNotFoundError:
        raise ArtifactError(Problem(str(path), "no such file", what)) from None
    except OSError as error:
        raise ArtifactError(
            Problem(str(path), f"cannot be read: {error.strerror}", what)
        ) from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        ArtifactError: If the place cannot be written.
    """
    check_file_place(path)
    try:
        _remove_abandoned(path)
        handle, temporary = tempfile.mkstemp(
            prefix=_prefix(path), suffix=_PART, dir=path.parent
        )
    except OSError as error:
        raise _fail(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise _fail(path, error) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def check_file_place(path: Path) -> None:
    """Check that `write_file` may use a place.

    Raises:
        ArtifactError: If its folder is missing, or something else is in the place.
    """
    try:
        # Renaming over a device or a link would destroy it.
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ArtifactError(
                Problem(str(path), "this is no plain file", "a new or plain file")
            )
        _check_writable(path)
    except OSError as error:
        raise _fail(path, error) from None


@contextmanager
def new_folder(
    path: Path, *, marker: str, own: tuple[str, ...] = ("*",)
) -> Iterator[Path]:
    """Yield a folder to fill; it takes the place of `path` when all is done.

    After an error, or when the process is killed, the place is as it was. What a killed
    process left beside it is removed.

    Args:
        path: The place.
        marker: A file that an older folder must hold, so that no other folder is ever
            replaced.
        own: Patterns of the only files that an older folder may hold.

    Raises:
        ArtifactError: If something else is in the place, or it cannot be written.
    """
    check_folder_place(path, marker=marker, own=own)
    try:
        _remove_abandoned(path)
        temporary = Path(
            tempfile.mkdtemp(prefix=_prefix(path), suffix=_PART, dir=path.parent)
        )
        with _locked(temporary):
            try:
                temporary.chmod(0o755)
                yield temporary
                if path.exists():
                    _exchange(temporary, path)
                else:
                    temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _fail(path, error) from None


def write_folder(path: Path, files: Mapping[str, bytes], *, marker: str) -> None:
    """Write a folder with exactly these files, in the place of an older one.

    Args:
        path: The folder.
        files: Content by file name.
        marker: A file that an older folder must hold.

    Raises:
        ArtifactError: If something else is in the place, or it cannot be written.
    """
    with new_folder(path, marker=marker) as folder:
        for name, content in files.items():
            write_file(folder / name, content)


def check_folder_place(
    path: Path, *, marker: str, own: tuple[str, ...] = ("*",)
) -> None:
    """Check that `new_folder` may use a place.

    Raises:
        ArtifactError: If its parent is missing, something else is in the place, or
            nothing can be written there.
    """
    try:
        if path.exists():
            held = [each.name for each in path.iterdir()] if path.is_dir() else ["."]
            strange = [n for n in held if not any(fnmatch(n, p) for p in own)]
            if strange or (held and marker not in held):
                raise ArtifactError(
                    Problem(
                        str(path),
                        "something else is in this place",
                        f"a new name, or a folder with {marker}",
                        strange[0] if path.is_dir() and strange else "",
                    )
                )
        _check_writable(path)
    except OSError as error:
        raise _fail(path, error) from None


def _check_writable(path: Path) -> None:
    """Make a file beside a place and remove it, which no look at rights can replace."""
    if not path.parent.is_dir():
        raise ArtifactError(
            Problem(str(path), "its folder does not exist", str(path.parent))
        )
    handle, temporary = tempfile.mkstemp(
        prefix=_prefix(path), suffix=_PART, dir=path.parent
    )
    os.close(handle)
    Path(temporary).unlink()


def _prefix(path: Path) -> str:
    return f".{path.name}."


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a path, which ends with the process, however it ends."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that are gone have left beside a place."""
    for each in path.parent.glob(f"{glob.escape(_prefix(path))}*{_PART}"):
        try:
            with _locked(each):
                if each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders, in one step where the system has one for it."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is not None:
        names = (os.fsencode(new), os.fsencode(old))
        if swap(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0:
            return
    aside = new.with_name(f"{new.name}.old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)

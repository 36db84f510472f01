"""This file puts files and folders in their place, whole or not at all.

A file is written as `daphne_bridge.files` does; a folder is filled beside its place and
swapped in. Whoever is killed in between leaves the old content or the new one, and at
most a hidden sibling that the next call removes.
"""

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path

from daphne_bridge import files
from daphne_bridge.files import (
    PART,
    cannot_write,
    check_writable,
    locked,
    new_file,
    prefix_beside,
    remove_abandoned,
)

from ..errors import ArtifactError, Problem

# Of the Linux call renameat2: paths as they are, and both names swap in one step.
_HERE = -100
_RENAME_EXCHANGE = 2

__all__ = [
    "check_file_place",
    "check_folder_place",
    "new_folder",
    "own_folder",
    "read_file",
    "read_inside",
    "write_file",
    "write_folder",
]


def read_file(path: Path | str, what: str, *, limit: int) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        what: What it should be, for the message.
        limit: Most bytes to read.

    Raises:
        ArtifactError: If there is no such file, if it is a folder, a device or a pipe,
            or if it is larger than `limit`.
    """
    path = Path(path)
    try:
        # Opening a pipe would wait for its writer, reading a device might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ArtifactError.at(str(path), "this is no plain file", what)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ArtifactError.at(
                    str(path), f"{what} is too large", f"{limit} bytes", f"{size}"
                )
            return file.read(limit + 1)
    except FileNotFoundError:
        raise ArtifactError.at(str(path), "no such file", what) from None
    except OSError as error:
        raise ArtifactError.at(
            str(path), f"cannot be read: {error.strerror}", what
        ) from None


def read_inside(folder: Path, name: str, what: str, limit: int) -> bytes:
    """Return the content of a file that a folder holds itself; see `read_file`.

    Raises:
        ArtifactError: Also if the file is a link to another folder.
    """
    place = folder / name
    real = Path(os.path.realpath(place))
    if place.is_symlink() and real.parent != Path(os.path.realpath(folder)):
        raise ArtifactError.at(
            str(place), "this link leads out of the artifact", "a file"
        )
    return read_file(place, what, limit=limit)


def write_file(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        ArtifactError: If the place cannot be written.
    """
    with new_file(Path(path), ArtifactError) as file:
        file.write(content)


def check_file_place(path: Path | str) -> None:
    """Check that `write_file` may use a place.

    Raises:
        ArtifactError: If its folder is missing, or something else is in the place.
    """
    files.check_file_place(Path(path), ArtifactError)


@contextmanager
def new_folder(
    path: Path | str, *, marker: str, own: tuple[str, ...] = ("*",)
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
    path = Path(path)
    check_folder_place(path, marker=marker, own=own)
    try:
        remove_abandoned(path)
        temporary = Path(
            tempfile.mkdtemp(prefix=prefix_beside(path), suffix=PART, dir=path.parent)
        )
        with locked(temporary):
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
        raise ArtifactError(cannot_write(path, error)) from None


def write_folder(path: Path | str, files: Mapping[str, bytes], *, marker: str) -> None:
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


@contextmanager
def own_folder(path: Path | str, what: str) -> Iterator[None]:
    """Make a folder if it is not there, and be the only one in it.

    The lock ends with the process, however it ends.

    Args:
        path: The folder.
        what: What goes on in it, for the message to another process.

    Raises:
        ArtifactError: If another process is in it, or it cannot be made.
    """
    path = Path(path)
    with ExitStack() as held:
        try:
            path.mkdir(exist_ok=True)
            held.enter_context(locked(path))
        except BlockingIOError:
            expected = "one at a time, or another place"
            problem = Problem(str(path), f"another {what} is going on here", expected)
            raise ArtifactError(problem) from None
        except OSError as error:
            raise ArtifactError(cannot_write(path, error)) from None
        yield


def check_folder_place(
    path: Path | str, *, marker: str, own: tuple[str, ...] = ("*",)
) -> None:
    """Check that `new_folder` may use a place.

    Raises:
        ArtifactError: If its parent is missing, something else is in the place, or
            nothing can be written there.
    """
    path = Path(path)
    try:
        if os.path.lexists(path):  # a link may lead nowhere
            held = [each.name for each in path.iterdir()] if path.is_dir() else ["."]
            strange = [n for n in held if not any(fnmatch(n, p) for p in own)]
            if strange or (held and marker not in held):
                raise ArtifactError.at(
                    str(path),
                    "something else is in this place",
                    f"a new name, or a folder with {marker}",
                    strange[0] if path.is_dir() and strange else "",
                )
        check_writable(path, ArtifactError)
    except OSError as error:
        raise ArtifactError(cannot_write(path, error)) from None


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

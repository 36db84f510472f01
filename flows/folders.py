"""This file puts files and folders in their place, whole or not at all.

A file is written beside its place, flushed to disk and renamed; a folder is filled
beside its place and swapped in by renames. Whoever is killed in between leaves the old
content or the new one, and at most a hidden sibling that the next call removes.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import ArtifactError, Problem

__all__ = [
    "check_folder_place",
    "folder_for",
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
    if path.is_symlink() or (path.exists() and not path.is_file()):
        # Renaming over a device or a link would destroy it.
        raise ArtifactError(
            Problem(str(path), "this is no plain file", "a new or plain file")
        )
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _fail(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise _fail(path, error) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """Make a folder for files to come; without any, it is gone after an error.

    Raises:
        ArtifactError: If it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise _fail(path, error) from None
    try:
        yield
    except BaseException:
        if not any(path.iterdir()):
            path.rmdir()
        raise


def write_folder(path: Path, files: Mapping[str, bytes], *, marker: str) -> None:
    """Write a folder with exactly these files, in the place of an older one.

    Args:
        path: The folder.
        files: Content by file name.
        marker: A file that an older folder must hold, so that no other folder is ever
            replaced.

    Raises:
        ArtifactError: If something else is in the place, or it cannot be written.
    """
    check_folder_place(path, marker=marker)
    old = path.with_name(f".{path.name}.old")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _fail(path, error) from None
    try:
        temporary.chmod(0o755)
        for name, content in files.items():
            write_file(temporary / name, content)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _fail(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder_place(path: Path, *, marker: str) -> None:
    """Check that `write_folder` may use a place.

    Raises:
        ArtifactError: If its parent is missing, or something else is in the place.
    """
    if not path.parent.is_dir():
        raise ArtifactError(
            Problem(str(path), "its folder does not exist", str(path.parent))
        )
    if path.exists() and (
        not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file())
    ):
        raise ArtifactError(
            Problem(
                str(path),
                "something else is in this place",
                f"a new name, or a folder with {marker}",
            )
        )

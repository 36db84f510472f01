"""This file keeps particles on disk.

The format is an uncompressed `.npz` without pickled objects:

- one float64 array `[particle, *shape]` per latent, under the document's name;
- `log_weights [particle]`, float64, unnormalised, in nats;
- `names` and `labels`, text: the latents in the order of their columns, as the document
  and as the program call them;
- `doubts [doubt, 3]`, text, where there are any: what was found, what that says about
  the particles, and what to do about it.

Equal particles give equal bytes. A kill leaves the old file or the new one.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.files import new_file

from ..errors import InferenceError
from ..model.layout import Variable
from .cautions import Caution
from .columns import columns_of

__all__ = ["load_columns", "save_columns"]

_Array = npt.NDArray[Any]

_TEXT_ARRAYS = ("names", "labels")
_NEEDED = ("log_weights", *_TEXT_ARRAYS)
_DOUBTS = "doubts"
_PARTS = ("what", "meaning", "remedy")
# Zip members carry a date; a fixed one makes equal particles equal bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# What zipfile and numpy raise on damaged files; RuntimeError for a bit that says
# "encrypted" or "a later version".
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
)


def save_columns(
    path: Path,
    latents: Float[Tensor, "particle latent"],
    log_weights: Float[Tensor, " particle"],
    columns: Sequence[Variable],
    doubts: Sequence[Caution] = (),
) -> None:
    """Write particles to `path`, whole or not at all.

    Args:
        path: Where.
        latents: Natural values, float64.
        log_weights: Unnormalised, in nats, float64.
        columns: Which columns belong to which latent.
        doubts: Reasons not to trust them that their weights do not tell.

    Raises:
        InferenceError: If a latent's name clashes with an array of the format, or the
            place cannot be written.
    """
    names = [each.name for each in columns]
    reserved = (*_NEEDED, _DOUBTS)
    if len(set(names)) < len(names) or set(names) & set(reserved):
        raise InferenceError.at(
            str(path),
            "the names of the latents cannot be used as names of arrays",
            f"different names, and none of {', '.join(reserved)}",
            ", ".join(names),
        )

    def arrays() -> Iterator[tuple[str, _Array]]:
        # One array at a time: many particles need not fit into memory twice.
        for each in columns:
            block = latents[:, each.start : each.stop]
            values = block.reshape(len(latents), *each.shape)
            yield each.name, np.ascontiguousarray(values.cpu().numpy())
        yield "log_weights", log_weights.cpu().numpy()
        yield "names", np.array(names, dtype=np.str_)
        yield "labels", np.array([each.label for each in columns], dtype=np.str_)
        if doubts:
            told = [[getattr(doubt, part) for part in _PARTS] for doubt in doubts]
            yield _DOUBTS, np.array(told, dtype=np.str_)

    with new_file(path, InferenceError) as file:
        _write_npz(file, arrays())


def load_columns(
    path: Path,
) -> tuple[
    Float[Tensor, "particle latent"],
    Float[Tensor, " particle"],
    tuple[Variable, ...],
    tuple[Caution, ...],
]:
    """Return latents, log weights, columns and doubts, as `save_columns` wrote them.

    Raises:
        InferenceError: If the file is missing, cut short, or no particles file.
    """
    try:
        arrays = _read_npz(path)
    except _DAMAGE as error:
        raise InferenceError.at(
            str(path),
            "this is not a whole particles file",
            "an uncompressed .npz archive without pickled objects",
            str(error) or type(error).__name__,
        ) from error
    return _from_arrays(arrays, path)


def _write_npz(file: BinaryIO, arrays: Iterable[tuple[str, _Array]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, array, allow_pickle=False)


def _read_npz(path: Path) -> dict[str, _Array]:
    """Return the arrays of an archive; what a header claims is never allocated."""
    arrays: dict[str, _Array] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"the array {name} is compressed")
            content = archive.read(member)
            stream = io.BytesIO(content)
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"the array {name} has an unknown version")
            shape, is_fortran, dtype = _read_header(stream)
            if dtype.hasobject:
                raise ValueError(f"the array {name} holds pickled objects")
            flat = np.frombuffer(content, dtype, offset=stream.tell())
            if flat.size != math.prod(shape):
                raise ValueError(f"the array {name} is not of the size it claims")
            arrays[name] = flat.reshape(shape, order="F" if is_fortran else "C")
    return arrays


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    header: tuple[tuple[int, ...], bool, np.dtype[Any]]
    header = np.lib.format.read_array_header_1_0(stream)
    return header


def _from_arrays(
    arrays: dict[str, _Array], path: Path
) -> tuple[Tensor, Tensor, tuple[Variable, ...], tuple[Caution, ...]]:
    """Return the particles that the arrays of a file describe, or say what is wrong."""

    def wrong(what: str, expected: str, got: str) -> InferenceError:
        return InferenceError.at(str(path), what, expected, got)

    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise wrong(
            "arrays are missing", ", ".join(_NEEDED), f"no {', '.join(missing)}"
        )
    told = arrays.pop(_DOUBTS, np.empty((0, len(_PARTS)), np.str_))
    if told.dtype.kind != "U" or told.ndim != 2 or told.shape[1] != len(_PARTS):
        expected = f"text [doubt, {len(_PARTS)}]"
        raise wrong("doubts are no rows of text", expected, f"{list(told.shape)}")
    if any(
        arrays[name].dtype.kind != "U" or arrays[name].ndim != 1
        for name in _TEXT_ARRAYS
    ):
        raise wrong("names and labels are no lists of text", "text arrays", "others")
    names, labels = arrays["names"].tolist(), arrays["labels"].tolist()
    if len(labels) != len(names) or set(names) != set(arrays) - set(_NEEDED):
        raise wrong(
            "the list of names does not fit the arrays",
            ", ".join(names),
            ", ".join(sorted(set(arrays) - set(_NEEDED))),
        )
    log_weights = arrays["log_weights"]
    num = log_weights.shape[0] if log_weights.ndim == 1 else -1
    for name in (*names, "log_weights"):
        array = arrays[name]
        if array.dtype != np.float64 or array.ndim == 0 or array.shape[0] != num:
            raise wrong(
                f"the array {name} does not fit",
                "float64 with one row per particle",
                f"{array.dtype} {list(array.shape)}",
            )
    columns = columns_of(
        (name, label, arrays[name].shape[1:])
        for name, label in zip(names, labels, strict=True)
    )
    latents = np.empty((num, columns[-1].stop if columns else 0))
    for each in columns:
        latents[:, each.start : each.stop] = arrays[each.name].reshape(num, each.size)
    return (
        torch.from_numpy(latents),
        torch.from_numpy(log_weights.copy()),
        columns,
        tuple(Caution(*row) for row in told.tolist()),
    )

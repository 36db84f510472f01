"""This file reads weights and golden values as the manifest states them."""

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import ArtifactError
from .folders import read_inside
from .json_values import parsed
from .manifest import Manifest
from .manifest_file import file_entry

__all__ = ["GOLDEN", "WEIGHTS", "load_golden", "load_tensors"]

WEIGHTS = "weights.safetensors"
GOLDEN = "golden.json"

_LIMITS = {WEIGHTS: 8 * 2**30, GOLDEN: 2**30}


def load_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Return the tensors of an artifact by name.

    Raises:
        ArtifactError: If the file is missing, cut, changed, or holds no tensors.
    """
    content = _checked_bytes(folder, WEIGHTS, manifest)
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise ArtifactError.at(
            str(folder / WEIGHTS), f"not a safetensors file: {error}"[:200]
        ) from None


def load_golden(folder: Path, manifest: Manifest) -> Any:
    """Return what the file of golden values holds.

    Raises:
        ArtifactError: If it is missing, cut, changed, or not JSON.
    """
    try:
        return parsed(_checked_bytes(folder, GOLDEN, manifest))
    except ValueError:
        raise ArtifactError.at(str(folder / GOLDEN), "not JSON") from None


def _checked_bytes(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the content of a file whose length and digest the manifest states."""
    entry = manifest.files[name]
    place = folder / name
    if place.is_file():
        _check_length(place, place.stat().st_size, entry.bytes)
    content = read_inside(folder, name, f"{name} of the artifact", _LIMITS[name])
    _check_length(place, len(content), entry.bytes)
    if file_entry(content) != entry:
        raise ArtifactError.at(
            str(place), "changed after it was written: the digest differs"
        )
    return content


def _check_length(place: Path, length: int, stated: int) -> None:
    if length != stated:
        what = "cut short" if length < stated else "too long"
        raise ArtifactError.at(str(place), what, f"{stated} bytes"[:80], f"{length}")

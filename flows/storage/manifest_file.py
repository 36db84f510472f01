"""This file reads and writes `manifest.json`: form, version and checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from ..errors import ArtifactError
from .earlier_manifests import VERSIONS, upgraded
from .folders import read_inside
from .json_values import check_finite, json_bytes, parsed
from .manifest import FORMAT, FileEntry, Manifest

__all__ = ["MANIFEST", "file_entry", "load_manifest", "manifest_bytes"]

MANIFEST = "manifest.json"

_LIMIT = 256 * 2**20


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder after checking its form and checksum.

    Raises:
        ArtifactError: If there is none, or its form, version or checksum is another.
    """
    place = folder / MANIFEST
    if not folder.is_dir():
        what = "this is a file" if folder.exists() else "no such folder"
        raise ArtifactError.at(str(folder), what, "an artifact, a folder")
    content = read_inside(folder, MANIFEST, "the manifest of an artifact", _LIMIT)
    try:
        entry = parsed(content)
    except ValueError:
        raise ArtifactError.at(
            str(place), "not JSON; cut short or damaged", "a manifest"
        ) from None
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise ArtifactError.at(str(place), "this is no manifest of an artifact")
    if entry.get("version") not in VERSIONS:
        raise ArtifactError.at(
            str(place),
            "this version of the format cannot be read",
            f"one of {', '.join(map(str, VERSIONS))}",
            f"{entry.get('version')!r}"[:40],
        )
    newest = upgraded(entry)
    problem = next(iter(_validator().iter_errors(newest)), None)
    if problem is not None:
        raise ArtifactError.at(
            f"{place}: {problem.json_path}"[:300], problem.message[:120]
        )
    found = _checksum(entry, str(place))
    if entry["checksum"] != found:
        raise ArtifactError.at(
            str(place),
            "the manifest was changed after it was written",
            f"the checksum {found[:19]}...",
            f"{entry['checksum'][:19]}...",
        )
    return Manifest.from_json(newest)


def manifest_bytes(manifest: Manifest, others: Mapping[str, bytes]) -> bytes:
    """Return the file of a manifest, with its checksum and those of other files.

    Raises:
        ArtifactError: If a number is not finite.
    """
    entries = {name: file_entry(content) for name, content in others.items()}
    entry = replace(manifest, files=entries).to_json()
    entry["checksum"] = _checksum(entry, MANIFEST)
    return json_bytes(entry, MANIFEST)


def file_entry(content: bytes) -> FileEntry:
    """Return length and digest of a file."""
    return FileEntry(len(content), _digest(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _checksum(entry: Mapping[str, Any], where: str) -> str:
    """Return the digest of a manifest whose checksum is empty."""
    check_finite(entry, where)
    blank = {**entry, "checksum": ""}
    text = json.dumps(blank, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _digest(text.encode())


@cache
def _validator() -> Draft202012Validator:
    text = files(__package__).joinpath("manifest.schema.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))

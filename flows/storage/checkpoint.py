"""This file keeps a training run on disk, so that it can be resumed at any moment.

Beside an artifact ARTIFACT stands the folder ARTIFACT.training:

- `checkpoint.safetensors`: the tensors of `training.TrainingState`; its plain values,
  the model's digest, the seed and the configuration are text in the file's metadata,
  with a checksum of everything. One file, written whole or not at all.
- `log.jsonl`: one report per line.
- `config.toml`: the configuration as resolved.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ArtifactError
from ..training.state import DONE, TrainingState
from .earlier_manifests import settings_now
from .folders import read_file, write_file
from .json_values import parsed

__all__ = [
    "RunKey",
    "is_of_interrupted_run",
    "load_checkpoint",
    "save_checkpoint",
    "training_folder",
]

_FORMAT = "daphne-flows checkpoint 2"
_LIMIT = 8 * 2**30
_NUMBER = "not finite"
_ADDED = {"heads": "auto"}
"""Settings that runs of earlier versions do not have."""
_ANEW = "train without --resume to start anew"
_OTHERWISE = ", or go on with --config and the config.toml beside it"


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a run must share with its continuation.

    Attributes:
        digest: Of the model.
        seed: Of every draw.
        config: Resolved configuration, plain values.
    """

    digest: str
    seed: int
    config: Mapping[str, Any]


def training_folder(artifact: Path) -> Path:
    """Return the folder of the run that makes an artifact."""
    return artifact.with_name(f"{artifact.name}.training")


def save_checkpoint(state: TrainingState, key: RunKey, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    metadata = {
        "format": _FORMAT,
        "digest": key.digest,
        "seed": json.dumps(key.seed),
        "config": json.dumps(key.config, allow_nan=False),
        "values": json.dumps(_written(state.values), allow_nan=False),
    }
    tensors = {
        name: tensor.cpu().contiguous() for name, tensor in state.tensors.items()
    }
    metadata["checksum"] = _checksum(metadata, tensors)
    write_file(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path, key: RunKey) -> TrainingState:
    """Return the state of a run.

    Args:
        path: The checkpoint.
        key: Of the run that is to be continued.

    Raises:
        ArtifactError: If the file is damaged, or of another run.
    """
    stored, state = _read_whole(path)
    for what, mine, theirs in (
        ("model", key.digest, stored.digest),
        ("seed", key.seed, stored.seed),
        ("configuration", _completed(key.config), _completed(stored.config)),
    ):
        if mine != theirs:
            raise ArtifactError.at(
                str(path),
                f"the checkpoint has another {what}; {_ANEW}"
                f"{_OTHERWISE if what == 'configuration' else ''}",
                *_shown(mine, theirs),
            )
    return state


def is_of_interrupted_run(path: Path) -> bool:
    """Return whether a file is the checkpoint of a run that has not come to its end.

    Raises:
        ArtifactError: If the file is damaged.
    """
    if not path.exists():
        return False
    _, state = _read_whole(path)
    return bool(state.values.get("phase") != DONE)


def _read_whole(path: Path) -> tuple[RunKey, TrainingState]:
    """Return of which run a checkpoint is, and its state.

    Raises:
        ArtifactError: If the file is damaged.
    """
    content = read_file(path, "a checkpoint", limit=_LIMIT)
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
        tensors = safetensors.torch.load(content)
        if metadata.get("format") != _FORMAT:
            raise ValueError("another format")
        if metadata.pop("checksum", "") != _checksum(metadata, tensors):
            raise ValueError("the checksum differs")
        stored = RunKey(
            metadata["digest"], parsed(metadata["seed"]), parsed(metadata["config"])
        )
        values = parsed(metadata["values"], object_hook=_read)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ArtifactError.at(
            str(path),
            f"the checkpoint is damaged; {_ANEW}",
            "a file that this program wrote",
            str(error)[:80],
        ) from None
    return stored, TrainingState(tensors, values)


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with what runs of earlier versions do not say."""
    found = {**_ADDED, **config}
    if "flow" in found:
        found["flow"] = settings_now(found.get("kind"), found["flow"])
    return found


def _written(value: Any) -> Any:
    """Return plain values as JSON can hold them: infinities and nan by their names."""
    if isinstance(value, Mapping):
        return {key: _written(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_written(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    return value


def _read(entry: dict[str, Any]) -> Any:
    """Undo `_written` for an object."""
    return float(entry[_NUMBER]) if entry.keys() == {_NUMBER} else entry


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shown(mine: Any, theirs: Any) -> tuple[str, str]:
    """Return what differs; of settings the kind, on which others depend, or all."""
    if not (isinstance(mine, Mapping) and isinstance(theirs, Mapping)):
        return str(mine)[:30], str(theirs)[:30]
    one, other = _flat(mine), _flat(theirs)
    names = [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]
    names = ["kind"] if "kind" in names else names
    return _listed(one, names), _listed(other, names)


def _listed(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(
        f"{name} = {settings[name]}" if name in settings else f"no {name}"
        for name in names
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a table by names such as `flow.hidden`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": each for key, each in _flat(value).items()}
        else:
            found[name] = value
    return found

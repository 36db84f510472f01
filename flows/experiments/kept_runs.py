"""This file keeps a run of an experiment on disk, so that it goes on over sittings.

A file holds tensors and plain values, with what the run is of: that of another model,
network, length or seed is not gone on from. It is replaced whole, every few seconds
and when the run is measured.
"""

import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..storage.folders import write_file

__all__ = ["KeptRun"]

_EVERY = 15.0
"""Seconds."""


@dataclass(slots=True)
class KeptRun:
    """The place of a run.

    Args:
        path: its file; None where runs are not kept.
        of: what the run is of.
    """

    path: Path | None
    of: str
    _saved: float = field(default_factory=time.monotonic, init=False)

    @property
    def is_due(self) -> bool:
        """Whether it is some seconds since it was last saved."""
        return self.path is not None and time.monotonic() - self._saved > _EVERY

    def load(self) -> dict[str, Any] | None:
        """What was saved of this run, if anything was."""
        if self.path is None or not self.path.exists():
            return None
        kept: dict[str, Any] = torch.load(self.path, weights_only=True)
        return kept["state"] if kept["of"] == self.of else None

    def save(self, state: dict[str, Any]) -> None:
        """Save a state of tensors and plain values."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        torch.save({"of": self.of, "state": state}, content)
        write_file(self.path, content.getvalue())
        self._saved = time.monotonic()

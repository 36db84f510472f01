"""This file keeps a running training in a folder: checkpoint, log, configuration.

- `checkpoint.safetensors`: the state of the last report (`storage.checkpoint`);
- `log.jsonl`: one report per line;
- `config.toml`: the configuration as resolved;
- `nuisances.json`: what was chosen before, if anything was.
"""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import tomli_w

from daphne_bridge.files import cannot_write

from ..errors import ArtifactError, FlowsError
from ..inference.plain import plain
from ..storage.checkpoint import (
    RunKey,
    is_of_interrupted_run,
    load_checkpoint,
    save_checkpoint,
)
from ..storage.earlier_manifests import settings_now
from ..storage.folders import check_folder_place, own_folder, read_file, write_file
from ..storage.json_values import parsed
from ..training.loop import Fit
from ..training.state import Report, TrainingState
from .chosen import Chosen
from .toml_table import toml_table

__all__ = ["RunFolder"]

_CHECKPOINT = "checkpoint.safetensors"
_LOG = "log.jsonl"
_LOG_LIMIT = 2**30
_CONFIG = "config.toml"
_NUISANCES = "nuisances.json"
_OWN_FILES = (_CHECKPOINT, _LOG, _CONFIG, _NUISANCES, ".*.part")
_SECONDS_BETWEEN_CHECKPOINTS = 5.0


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a training run.

    Attributes:
        path: The folder.
    """

    path: Path

    def check(self) -> None:
        """Raise if something else is in the place.

        Raises:
            ArtifactError: It says what.
        """
        check_folder_place(self.path, marker=_CONFIG, own=_OWN_FILES)

    def owned(self) -> AbstractContextManager[None]:
        """Return a context in which no other training may use the folder."""
        return own_folder(self.path, "training")

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is anything to be resumed."""
        return (self.path / _CHECKPOINT).exists()

    def loss(self, resume: str) -> str:
        """Return what is lost when a run begins here anew; empty if nothing is.

        Args:
            resume: What goes on with an interrupted run.
        """
        try:
            is_lost = is_of_interrupted_run(self.path / _CHECKPOINT)
        except ArtifactError:
            return f"{self.path}: the run in it, which is damaged, will be replaced"
        what = f"{self.path}: the interrupted run in it will be replaced; {resume} goes"
        return f"{what} on with it" if is_lost else ""

    @property
    def config(self) -> Path | Mapping[str, Any] | None:
        """The configuration of the run that can be resumed, or begun again.

        A TOML file; a table where an earlier version wrote less into it.
        """
        kept = self.path / _CONFIG
        if not kept.is_file():
            return None
        try:
            table = toml_table(kept)
        except FlowsError:
            return kept  # whoever reads it says what is wrong
        flow = table.get("flow")
        now = settings_now(table.get("kind"), flow)
        return kept if now == flow else {**table, "flow": now}

    def state(self, key: RunKey) -> TrainingState | None:
        """Return the state of a run that is to be continued; None if there is none.

        Raises:
            ArtifactError: If the checkpoint is damaged, or of another run.
        """
        if not self.has_checkpoint:
            return None
        return load_checkpoint(self.path / _CHECKPOINT, key)

    @property
    def chosen(self) -> Chosen | None:
        """The nuisances that were chosen for the run that can be resumed, if any.

        Raises:
            FlowsError: If the file does not say so.
        """
        kept = self.path / _NUISANCES
        if not kept.exists():
            return None
        try:
            table = parsed(read_file(kept, "chosen nuisances", limit=_LOG_LIMIT))
            counts = {name: int(count) for name, count in table["nuisances"].items()}
            return Chosen(counts, float(table["seconds"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FlowsError.at(
                str(kept),
                "the file is damaged; train without --resume to start anew",
                "what this program wrote",
                str(error)[:80],
            ) from None

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration of a run that has no state yet.

        Raises:
            ArtifactError: If another run is in the folder.
        """
        with self.owned():
            for old in (_CHECKPOINT, _LOG, _NUISANCES):
                (self.path / old).unlink(missing_ok=True)
            write_file(self.path / _CONFIG, tomli_w.dumps(settings).encode())

    def keep_chosen(self, chosen: Chosen) -> None:
        """Write the nuisances that were chosen."""
        found = {"nuisances": dict(chosen.nuisances), "seconds": chosen.seconds}
        write_file(self.path / _NUISANCES, json.dumps(found).encode())

    def reports(
        self, run: Fit, key: RunKey, settings: Mapping[str, Any], *, resumed: bool
    ) -> Generator[Report]:
        """Yield the reports of a run, and keep its state, also when it ends early.

        Args:
            run: The fit.
            key: What its continuation must share.
            settings: The configuration, plain values.
            resumed: Whether the log is continued.
        """
        log = self.path / _LOG
        write_file(self.path / _CONFIG, tomli_w.dumps(settings).encode())
        first = run.state().values["iteration"]
        write_file(log, _log_until(log, first) if resumed else b"")
        saved = time.monotonic()
        with _appended(log) as lines:
            try:
                for report in run:
                    lines.write(json.dumps(_report_json(report)) + "\n")
                    lines.flush()
                    yield report
                    if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                        save_checkpoint(run.state(), key, self.path / _CHECKPOINT)
                        saved = time.monotonic()
            finally:
                # Also when interrupted: the state is that of the last report.
                save_checkpoint(run.state(), key, self.path / _CHECKPOINT)


@contextmanager
def _appended(path: Path) -> Iterator[TextIO]:
    """Yield a file to write more to."""
    try:
        with path.open("a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise FlowsError(cannot_write(path, error)) from None


def _log_until(path: Path, iteration: int) -> bytes:
    """Return the lines of a log up to an iteration, or the first that is none."""
    if not path.exists():
        return b""
    kept = []
    for line in read_file(path, "a log of training", limit=_LOG_LIMIT).splitlines():
        try:
            if parsed(line)["iteration"] > iteration:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + b"\n")
    return b"".join(kept)


def _report_json(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = plain(asdict(report))
    return found

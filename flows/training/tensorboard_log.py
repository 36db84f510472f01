"""This file writes a training run as a TensorBoard log, if TensorBoard is installed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import FlowsError
from ..optional import require
from .state import Report

__all__ = ["board_for", "check_board"]


def check_board(folder: Path) -> None:
    """Raise unless a log can be written into a folder.

    Raises:
        FlowsError: If TensorBoard is not installed, or something else is in the place.
    """
    require("tensorboard", extra="tensorboard", where="--tensorboard")
    if folder.exists() and not folder.is_dir():
        raise FlowsError.at(str(folder), "this is a file", "a folder")


@contextmanager
def board_for(folder: Path) -> Iterator[Callable[[Report], None]]:
    """Yield what adds a report to the log in a folder; values carry its iteration."""
    writers: Any = import_module("torch.utils.tensorboard")
    with writers.SummaryWriter(str(folder)) as writer:

        def add(report: Report) -> None:
            for name, value in _numbers(report).items():
                if value is not None and math.isfinite(value):
                    writer.add_scalar(name, value, report.iteration)
            writer.flush()

        yield add


def _numbers(report: Report) -> dict[str, float | None]:
    certified, forward = report.certified, report.certified_forward
    free_energy = report.certified_free_energy
    phase = report.phase.replace(" ", "-")
    return {
        f"loss/{phase}": report.loss,
        "certified/J": certified.symmetric.mean if certified else None,
        "certified/J standard error": (
            certified.symmetric.standard_error if certified else None
        ),
        "certified/forward": forward.mean if forward else None,
        "certified/free energy": free_energy.mean if free_energy else None,
        "certified/best": report.best,
        "ESS per draw": report.ess,
        "solver/steps": report.num_steps,
        "solver/bias": report.solver_bias,
        "learning rate": report.learning_rate,
        "seconds": report.seconds,
    }

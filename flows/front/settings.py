"""This file reads arguments: a model, the settings of training, and a budget."""

import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..model.model import Model
from ..training.config import TrainingConfig, training_config_from
from .arguments import path_of
from .toml_table import toml_table

__all__ = [
    "AUTO",
    "OF_ALL_KINDS",
    "Settings",
    "check_model",
    "says_kind",
    "seconds_of",
    "training_settings",
]

Settings = TrainingConfig | Mapping[str, Any] | Path | str | None
"""A configuration, or a mapping or the path of a TOML file that says what differs."""

AUTO = "auto"
"""In place of a kind of flow: the one that does best by measurement."""

OF_ALL_KINDS = (AUTO, "fused", "torch")
"""Engines that are not of one kind of flow."""

_BEST = "autoregressive"
_OF_A_KIND = ("flow", "num_steps", "max_num_steps", "bias_tolerance")
"""Settings that only flows of one kind have: of `cnf`, unless a kind is named."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def training_settings(
    config: Settings = None,
    *,
    budget: str | float | None = None,
    augment: int | str | None = None,
    objective: str | None = None,
    integrate: str | None = None,
    kind: str | None = None,
    amortised: bool | None = None,
) -> TrainingConfig:
    """Return a whole training configuration.

    Args:
        config: What it starts from; the default if None.
        budget: Seconds of work in its place, or a duration such as `10m`.
        augment: Nuisance columns per latent in its place.
        objective: What is minimised in its place.
        integrate: Which latents are integrated out, in its place.
        kind: Of flow, in its place; a table of the flow's shape is then of this kind.
            `AUTO` for the best.
        amortised: Whether it is of all data sets, in its place.

    Raises:
        FlowsError: With every problem.

    Example:
        >>> training_settings({"batch_size": 64}, budget="2m").budget_seconds
        120.0
    """
    kind = _BEST if kind == AUTO else kind
    if isinstance(config, TrainingConfig):
        table, where = dict(config.as_mapping()), "the configuration"
        if kind not in (None, config.kind):  # which has defaults of its own
            usual = training_config_from({"kind": config.kind}, where).as_mapping()
            table = {key: table[key] for key in table if table[key] != usual[key]}
            table.pop("flow", None)
    else:
        found, where = _table(config)
        table = dict(found)
    given = {
        "budget_seconds": None if budget is None else seconds_of(budget),
        "augment": augment,
        "objective": objective,
        "integrate": integrate,
        "kind": kind,
        "amortised": amortised,
    }
    if table.get("kind") == AUTO:
        table["kind"] = _BEST
    chosen = {key: value for key, value in given.items() if value is not None}
    return training_config_from({**table, **chosen}, where)


def says_kind(config: Settings) -> bool:
    """Return whether a configuration says of which kind the flow is.

    A whole configuration does, and so does one with a shape of the flow, or with what
    only a flow that is solved has: nuisances and a solver's steps, of `cnf`.
    """
    if isinstance(config, TrainingConfig):
        return True
    table = _table(config)[0]
    is_solved = bool(table.get("augment")) or any(key in table for key in _OF_A_KIND)
    return "kind" in table or is_solved


def check_model(model: Model) -> None:
    """Raise unless an argument is a model.

    Raises:
        ArgumentError: If it is something else, as the path of a program.
    """
    if not isinstance(model, Model):
        raise ArgumentError.at(
            "model",
            "not a model",
            "Model.compile(path) or Model.load(path)",
            type(model).__name__,
        )


def seconds_of(budget: str | float) -> float:
    """Return the seconds of a duration such as `90s`, `10m` or `1.5h`.

    Raises:
        FlowsError: If it is no duration above 0.

    Example:
        >>> seconds_of("1.5h")
        5400.0
    """
    if isinstance(budget, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", budget.strip())
        seconds = float(match.group(1)) * _UNITS[match.group(2)] if match else 0.0
    else:
        seconds = float(budget) if isinstance(budget, Real) else 0.0
    if not seconds > 0:
        raise ArgumentError.at(
            "budget", "not a duration", "90s, 10m or 1.5h", repr(budget)
        )
    return seconds


def _table(
    config: Mapping[str, Any] | Path | str | None,
) -> tuple[Mapping[str, Any], str]:
    """Return settings as a file or a user gives them, and where they come from."""
    if config is None or isinstance(config, Mapping):
        return config or {}, "the configuration"
    path = path_of("config", config)
    return toml_table(path), str(path)

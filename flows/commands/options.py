"""This file holds what options of several commands are and take."""

import math
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from daphne_bridge.command_line import PATH, setting

from ..cnf.engines import ENGINES
from ..inference.importance import MOST_SEED
from ..training.config import CHOSEN, MOST_NUISANCES

__all__ = [
    "COUNT",
    "MOST_HELD",
    "MOST_TIME",
    "NUISANCES",
    "OPEN_SHARE",
    "SEED",
    "Real",
    "Whole",
    "WholeOr",
    "artifact_and_model",
    "engine_option",
    "observe_option",
]


class Whole(click.IntRange):
    """A whole number in a range, in digits only."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number; Python's `1_000` is refused."""
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value) is None:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


class Real(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number; nan, infinity and Python's `1_000` are refused."""
        number = super().convert(value, param, ctx)
        if "_" in str(value) or not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class WholeOr(Whole):
    """A whole number in a range, or one word in its place."""

    def __init__(self, word: str, least: int, most: int) -> None:
        super().__init__(least, most)
        self.word = word

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number, or the word."""
        if value == self.word:
            return value
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value) is None:
            what = f"{value!r} is neither a whole number nor {self.word}."
            self.fail(what, param, ctx)
        return super().convert(value, param, ctx)


NUISANCES = WholeOr(CHOSEN, 0, MOST_NUISANCES)
"""Type of a number of nuisances for each latent, which may be left to be chosen."""

SEED = Whole(0, MOST_SEED)
"""Type of a seed, as the random generators take it."""

COUNT = Whole(1, 1_000_000_000)
"""Type of a number of draws."""

MOST_TIME = "Most time by the wall clock: 90s, 10m."
"""What help says of a budget."""

MOST_HELD = 1_000_000
"""Most draws of a kind whose results are all held in memory."""

OPEN_SHARE = Real(0, 1, min_open=True, max_open=True)
"""Type of a share that is neither nothing nor all."""


engine_option = setting(
    "--engine", click.Choice(ENGINES), "auto", "What solves the flow in training."
)

observe_option = click.option(
    "--observe",
    multiple=True,
    metavar="NAME=VALUE",
    help="Other data than the document's; may be repeated.",
)


def artifact_and_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the arguments `[ARTIFACT] MODEL` in front of its own.

    It is called with the `artifact`, None if there is none, and the `place` of MODEL.
    """

    @click.argument(
        "places", type=PATH, nargs=-1, required=True, metavar="[ARTIFACT] MODEL"
    )
    @wraps(command)
    def run(*arguments: Any, places: tuple[Path, ...], **options: Any) -> Any:
        if len(places) > 2:
            raise click.UsageError("takes one artifact and one model")
        artifact = places[0] if len(places) == 2 else None
        return command(*arguments, artifact=artifact, place=places[-1], **options)

    return run

"""This file shows what a command does and finds: progress, figures and tables."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from daphne_bridge.command_line import print_json

__all__ = [
    "leave_untrusted",
    "print_artifact",
    "print_figures",
    "print_table",
    "progress_bar",
    "say_compiling",
    "shown_progress",
]

_UNTRUSTED = 3
"""Exit code of a command whose answer cannot be trusted."""


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Yield a progress bar on standard error, to be started; tasks have a field `note`.

    One that nothing started leaves no trace: what went wrong before stands alone.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True, quiet=quiet)
    progress = Progress(*columns, console=console)
    try:
        yield progress
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def shown_progress(
    title: str, *, quiet: bool
) -> Iterator[Callable[[float, str], None]]:
    """Yield what is called with the share of a work that is done, and a note."""
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(title, total=1.0, note="")
        progress.start()

        def show(share: float, note: str) -> None:
            progress.update(task, completed=share, note=note)

        yield show
        progress.update(task, completed=1.0)


def print_figures(
    figures: Mapping[str, Any],
    table: Callable[[Mapping[str, Any]], Any],
    *,
    as_json: bool,
) -> None:
    """Print figures on standard output, as JSON or as the table made of them."""
    if as_json:
        print_json(figures)
    else:
        print_table(table(figures))


def print_artifact(
    output: Path, metrics: Mapping[str, Any], sentence: str, *, ok: bool, as_json: bool
) -> None:
    """Print what a flow is worth that stands in a folder now, as JSON or in words."""
    if as_json:
        print_json({"ok": ok, "output": str(output), "metrics": metrics})
    else:
        click.echo(f"{output}: {sentence}")


def print_table(renderable: Any) -> None:
    """Print a table on standard output."""
    Console(soft_wrap=False).print(renderable, highlight=False)


def say_compiling() -> None:
    """Tell that the kernel is being compiled."""
    click.echo("compiling the kernel, which takes some seconds", err=True)


def leave_untrusted(cautions: Iterable[object] = ()) -> NoReturn:
    """Say why an answer cannot be trusted, where no table has, and leave."""
    for caution in cautions:
        click.echo(f"caution: {caution}", err=True)
    sys.exit(_UNTRUSTED)

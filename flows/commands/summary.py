"""This file is `daphne-flows summary`: the tables of a finished run."""

from collections.abc import Callable, Mapping
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.errors import ConsoleError

from daphne_bridge.command_line import PATH, guarded

from ..front.answer import ANSWER
from ..report.finished_run import DAMAGE, damaged
from ..report.inference_table import inference_table
from ..report.tables import evaluation_table, posterior_table
from ..storage.folders import read_file
from ..storage.json_values import parsed
from .inputs import FILE_LIMIT, check_run
from .output import leave_untrusted, print_table

__all__ = ["summary_command"]


@click.command("summary")
@click.argument("run", type=PATH)
@guarded
def summary_command(run: Path) -> None:
    """Print the tables of the finished run in the folder RUN.

    Exit code 3 if its figures cannot be trusted.
    """
    check_run(run)
    shown: tuple[tuple[Path, Callable[[Mapping[str, Any]], Any]], ...] = (
        (run / "particles" / "summary.json", posterior_table),
        (run / "evaluation.json", evaluation_table),
    )
    answers = (run / "answer" / ANSWER, run / ANSWER)
    answer = next((path for path in answers if path.exists()), None)
    if answer is not None:
        shown = ((answer, partial(inference_table, title=run.resolve().name)),)
    there = [(path, table) for path, table in shown if path.exists()]
    tables, is_trusted = [], True
    for path, table in there or shown:
        content = read_file(path, "a file of a finished run", limit=FILE_LIMIT)
        try:
            figures = parsed(content)
            shape = table(figures)
            is_trusted &= bool(figures["ok"])
            # Laid out before anything of it is printed.
            Console(file=StringIO()).print(shape)
        except (*DAMAGE, ConsoleError):
            raise damaged(path) from None
        tables.append(shape)
    for shape in tables:
        print_table(shape)
    click.echo("files")
    for path in sorted(run.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            click.echo(f"  {path}")
    if not is_trusted:
        leave_untrusted()

"""This file is `daphne-flows report`: a finished run as one page to look at."""

from pathlib import Path

import click

from daphne_bridge.command_line import PATH, guarded
from daphne_bridge.files import check_no_input

from ..errors import FlowsError
from ..model.model import Model
from ..report.canvas import check_plots
from ..report.finished_run import FinishedRun, run_files
from ..report.page import report_page
from ..storage.folders import check_file_place, read_file, write_file
from .inputs import FILE_LIMIT, check_run
from .model_argument import load_any

__all__ = ["report_command"]


@click.command("report")
@click.argument("run", type=PATH)
@click.option(
    "-o", "--output", type=PATH, help="File to write; RUN/report.html by default."
)
@click.option(
    "--program",
    type=PATH,
    help="Program to show; RUN/program.daphne, if there, by default.",
)
@guarded
def report_command(run: Path, output: Path | None, program: Path | None) -> None:
    """Write the finished run in the folder RUN as one HTML page.

    The page needs no network; it shows what is there and says how to make the rest.
    """
    check_plots()
    check_run(run)
    path = output if output is not None else run / "report.html"
    check_no_input(path, (program, *run_files(run)), FlowsError)
    check_file_place(path)
    graph = load_any(run / "graph.json").graph
    kept = run / "program.daphne"
    if program is None and kept.exists():
        program = kept
    text = None
    if program is not None:
        try:
            content = read_file(program, "a program", limit=FILE_LIMIT)
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise FlowsError.at(str(program), "not a text file") from None
    page = report_page(FinishedRun(run, graph, Model.from_graph(graph), text))
    write_file(path, page.encode())
    click.echo(str(path))

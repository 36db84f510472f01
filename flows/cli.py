"""This file is the command `daphne-flows`: it names the commands of `commands/`.

A command's file is imported when the command is called, so that help comes at once.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

from daphne_bridge import __version__
from daphne_bridge.command_line import Commands

__all__ = ["COMMANDS", "main"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "infer": "Answer MODEL, a program, a graph document, or - for standard input.",
        "train": "Train a flow for MODEL, a program or a graph document.",
        "refine": "Bend a flow to the data of MODEL, a program or a graph document.",
        "learn": "Learn parameters of GRAPH, a document or a program, from rows of"
        " data.",
        "sample": "Draw weighted particles of the posterior given the data of MODEL.",
        "smc": "Carry particles to the posterior given the data of MODEL, step by"
        " step.",
        "evaluate": "Measure the flow of ARTIFACT as a proposal for MODEL, a program or"
        " document.",
        "diagnose": "Diagnose the flow of ARTIFACT over data that MODEL draws.",
        "inspect": "Show what ARTIFACT holds: model, inverse, network, training,"
        " solver, files.",
        "report": "Write the finished run in the folder RUN as one HTML page.",
        "summary": "Print the tables of the finished run in the folder RUN.",
        "serve": "Answer lines of JSON with draws from ARTIFACT, a flow of MODEL.",
    }
)
"""What each command is for, in short; it stands in the file of its name."""


class _LazyCommands(Commands):
    """The commands in `COMMANDS`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, imported now; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f".commands.{cmd_name}", __package__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def elsewhere(self, name: str) -> str | None:
        """Return daphne-bridge if it has a command of this name."""
        bridge = import_module("daphne_bridge.cli").main
        return "daphne-bridge" if name in bridge.commands else None

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write what each command is for, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("daphne-flows", cls=_LazyCommands)
@click.version_option(__version__, prog_name="daphne-flows")
def main() -> None:
    """Train a flow for a graph document, and use it as a proposal.

    \b
    daphne-flows infer model.daphne                       program -> posterior
    daphne-flows train graph.json -o artifact             model -> artifact
    daphne-flows refine artifact graph.json -o bent       artifact -> one for these data
    daphne-flows learn graph.json --data rows.csv --parameters a,b -o learned
    daphne-flows sample artifact graph.json -o particles  data -> weighted particles
    daphne-flows evaluate artifact graph.json             how good is the proposal?
    daphne-flows summary runs/NAME                        the tables of a finished run

    Exit codes: 0 done, 3 done but not to be trusted, 2 bad input, 1 failure, 130
    interrupted.
    """  # noqa: D301 - the command line library reads \\b as a character
    # The networks are small: more threads cost more than they bring.
    import_module("torch").set_num_threads(1)

"""This file is the command `daphne-flows`: it gathers the commands of `commands/`."""

import click
import torch

from daphne_bridge import __version__
from daphne_bridge.command_line import Commands

from .commands.diagnose import diagnose_command
from .commands.evaluate import evaluate_command
from .commands.inspect import inspect_command
from .commands.report import report
from .commands.sample import sample
from .commands.serve import serve
from .commands.smc import smc
from .commands.summary import summary
from .commands.train import train

__all__ = ["main"]


@click.group(
    "daphne-flows",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="daphne-flows")
def main() -> None:
    """Train a flow for a graph document, and use it as a proposal.

    \b
    daphne-flows train graph.json -o artifact             model -> artifact
    daphne-flows sample artifact graph.json -o particles  data -> weighted particles
    daphne-flows evaluate artifact graph.json             how good is the proposal?
    daphne-flows summary runs/NAME                        the tables of a finished run

    Exit codes: 0 done, 2 bad input, 1 failure, 130 interrupted.
    """  # noqa: D301 - the command line library reads \\b as a character
    # The networks are small: more threads cost more than they bring.
    torch.set_num_threads(1)


main.add_command(train)
main.add_command(sample)
main.add_command(report)
main.add_command(smc)
main.add_command(diagnose_command)
main.add_command(evaluate_command)
main.add_command(summary)
main.add_command(inspect_command)
main.add_command(serve)

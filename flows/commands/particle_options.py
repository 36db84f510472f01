"""This file holds the options that `sample` and `smc` share."""

from collections.abc import Callable
from typing import Any

import click

from ..proposals.flow import KINDS
from .inputs import OPEN_SHARE, PATH, SEED, json_option, observe_option

__all__ = ["OWN_FILES", "SUMMARY", "particle_options"]

SUMMARY = "summary.json"
"""Name of the file that says what the particles say."""

OWN_FILES = (SUMMARY, "particles*")
"""Patterns of the files in a folder of particles; another file is never replaced."""

_OPTIONS = (
    click.argument("artifact", type=PATH),
    click.argument("graph", type=PATH),
    click.option("-o", "--output", type=PATH, required=True, help="Folder to write."),
    observe_option,
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option(
        "--proposal",
        "kind",
        type=click.Choice(KINDS),
        default="flow",
        show_default=True,
        help="What particles are drawn from, or start from.",
    ),
    click.option(
        "--mixture-weight",
        type=OPEN_SHARE,
        default=0.1,
        show_default=True,
        help="Share of the prior in the mixture.",
    ),
    json_option,
)


def particle_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the shared arguments and options in front of its own."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command

"""This file turns errors into messages and exit codes, the same way for every command.

Exit codes: 0 done; 2 bad input, one `where: what; expected; got` line per problem; 1
failure of the program itself; 130 interrupted from the keyboard.
"""

import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from .errors import BridgeError, Problem
from .start import INTERRUPTED

__all__ = [
    "BAD_INPUT",
    "FAILURE",
    "PATH",
    "Command",
    "Commands",
    "data_option",
    "guarded",
    "json_option",
    "print_json",
    "problem_json",
    "setting",
    "warn",
]

FAILURE = 1
BAD_INPUT = 2

_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Command = TypeVar("_Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
"""Type of an argument that names a file or folder."""

data_option = click.option(
    "--data", type=PATH, help="JSON object or CSV table that the program uses."
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable results."
)


def setting(
    name: str, kind: Any, default: Any, words: str | None = None
) -> Callable[[_Command], _Command]:
    """Return an option with a default, which help shows beside its words."""
    return click.option(name, type=kind, default=default, show_default=True, help=words)


def print_json(value: Any) -> None:
    """Print one JSON value on standard output."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def warn(problems: Iterable[Problem]) -> None:
    """Print warnings on standard error."""
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def problem_json(problem: Problem) -> dict[str, str]:
    """Return a problem as `--json` prints it."""
    return {
        "where": problem.where,
        "what": problem.what,
        "expected": problem.expected,
        "got": problem.got,
    }


class Command(click.Command):
    """A command that says in one sentence what is wrong with its options."""

    def main(self, *arguments: Any, **extra: Any) -> Any:
        """Run the command line, and exit with its code."""
        run = functools.partial(super().main, *arguments)
        _run(run, self.name, extra)


class Commands(Command, click.Group):
    """A group of commands that says in one sentence what is wrong with its options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        names = {"help_option_names": ["-h", "--help"]}
        super().__init__(*arguments, context_settings=names, **settings)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called; an unknown one is a usage error."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            if program := self.elsewhere(name):
                ctx.fail(f"No such command {name!r}. {program} has it")
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            if near:
                ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def elsewhere(self, name: str) -> str | None:  # noqa: ARG002
        """Return the program that has a command which this one lacks, if one has."""
        return None


def _run(
    main: Callable[..., Any], name: str | None, extra: Mapping[str, Any]
) -> NoReturn:
    """Run a command line, and exit with its code."""
    try:
        code = main(**{"prog_name": name, **extra, "standalone_mode": False})
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(BAD_INPUT)
    except click.UsageError as error:
        click.echo(f"{_usage_problem(error, name)}", err=True)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        _leave_if_output_is_broken(error)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _usage_problem(error: click.UsageError, name: str | None) -> Problem:
    command = error.ctx.command_path if error.ctx else f"{name}"
    what = " ".join(error.format_message().split()).rstrip(".")
    expected = f"the usage that {command} --help shows"
    return Problem(command, f"{what[:1].lower()}{what[1:]}", expected)


def _leave_if_output_is_broken(error: Exception) -> None:
    """Exit if standard output takes no more: quietly if its reader went away.

    What fails at a named file is said as a `Problem` where it is written.
    """
    if not isinstance(error, OSError) or error.errno not in _OUTPUT_ERRORS:
        return
    # What could not be written would fail once more when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        what = f"cannot be written: {error.strerror}"
        click.echo(f"{Problem('standard output', what)}", err=True)
    sys.exit(FAILURE)


def guarded(
    command: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Return `command` with its errors printed and turned into exit codes.

    A keyword argument `as_json` of the command decides whether problems are printed
    as JSON on standard output. `DAPHNE_BRIDGE_DEBUG=1` shows the traceback of a
    failure.
    """

    @functools.wraps(command)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        try:
            return command(*arguments, **options)
        except BridgeError as error:
            if options.get("as_json"):
                problems = [problem_json(problem) for problem in error.problems]
                print_json({"ok": False, "problems": problems})
            click.echo(f"{error}", err=True)
            sys.exit(BAD_INPUT)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            _leave_if_output_is_broken(error)
            if os.environ.get("DAPHNE_BRIDGE_DEBUG"):
                traceback.print_exc()
            kind = type(error).__name__
            text = " ".join(str(error).split()) or "no message"
            click.echo(
                f"failure: {kind}: {text} (DAPHNE_BRIDGE_DEBUG=1 shows where)", err=True
            )
            sys.exit(FAILURE)

    return run

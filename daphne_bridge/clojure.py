"""This file runs the original Daphne from a checkout.

The checkout is started as its README says: with the Clojure command line tools
(`clj -M:run graph -i PROGRAM -o GRAPH`) or Leiningen (`lein run graph ...`), whichever
the machine has and the checkout supports.
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import DaphneError

__all__ = ["daphne_command", "run_daphne"]

TIMEOUT_SECONDS = 3600.0
"""A compilation that takes longer is stopped."""


def daphne_command(
    checkout: Path, which: Callable[[str], str | None] = shutil.which
) -> tuple[str, ...]:
    """Return the command that starts Daphne in a checkout.

    Args:
        checkout: Folder of the original Daphne.
        which: How to look a program up on the machine.

    Raises:
        DaphneError: If the folder is no checkout, or no tool to run it is installed.
    """
    if not checkout.is_dir():
        raise DaphneError.at(str(checkout), "no such folder", "a checkout of Daphne")
    has_deps = (checkout / "deps.edn").is_file()
    has_project = (checkout / "project.clj").is_file()
    if not (has_deps or has_project):
        raise DaphneError.at(
            str(checkout),
            "this is no checkout of Daphne",
            "a folder with deps.edn or project.clj",
        )
    for tool in ("clj", "clojure"):
        if has_deps and which(tool):
            return (tool, "-M:run")
    if has_project and which("lein"):
        return ("lein", "run")
    tools = " or ".join(["clj"] * has_deps + ["lein"] * has_project)
    raise DaphneError.at(
        str(checkout),
        "nothing here can run this checkout",
        f"{tools} on the PATH (or leave DAPHNE out to use the embedded compiler)",
    )


def run_daphne(
    checkout: Path,
    program: Path,
    output: Path,
    *,
    command: Sequence[str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Compile `program` to a graph document at `output` with the original Daphne.

    Args:
        checkout: Folder of the original Daphne; the process runs in it.
        program: The program's file.
        output: Where the document goes; written whole or not at all.
        command: How to start Daphne; found by `daphne_command` if None.
        timeout_seconds: When to give up.

    Raises:
        DaphneError: If the program is missing, or Daphne fails, or takes too long, or
            writes nothing.
    """
    if not program.is_file():
        raise DaphneError.at(str(program), "no such file", "a program")
    start = tuple(command) if command else daphne_command(checkout)
    temporary = output.with_name(f".{output.name}.daphne")
    arguments = ["graph", "-i", str(program.resolve()), "-o", str(temporary.resolve())]
    try:
        done = subprocess.run(
            [*start, *arguments],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode != 0 or not temporary.is_file():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise DaphneError.at(
                str(program),
                f"Daphne failed with exit status {done.returncode}",
                "a graph document",
                " / ".join(said[-3:]) or "no message",
            )
        temporary.replace(output)
    except subprocess.TimeoutExpired:
        raise DaphneError.at(
            str(program), f"Daphne ran longer than {timeout_seconds:.0f} s"
        ) from None
    except OSError as error:
        raise DaphneError.at(
            str(checkout), f"cannot run {start[0]}: {error.strerror}"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)

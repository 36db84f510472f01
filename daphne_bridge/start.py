"""This file starts a command so that an interrupt while it is still loading is quiet.

A command's libraries take a second to load. Python would answer Ctrl-C in that time
with the traceback of whatever it was importing.
"""

import gc
import os
import signal
from importlib import import_module
from types import FrameType

__all__ = ["INTERRUPTED", "start"]

INTERRUPTED = 130

_FULL_SEARCHES = 1_000
"""Searches of younger objects between two searches of all."""


def start(module: str) -> None:
    """Import the command line in `module` and call its `main`."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    main = import_module(module).main
    # What large graphs are made of is kept to the end: searching all of it for garbage
    # is in vain, so that is done a hundred times less often.
    gc.set_threshold(*gc.get_threshold()[:2], _FULL_SEARCHES)
    signal.signal(signal.SIGINT, before)
    main()


def _leave(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)

"""This file holds `building`, under which large immutable structures are made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["building"]


@contextmanager
def building() -> Iterator[None]:
    """Make objects that stay, without searching them for cycles again and again.

    Python looks for garbage each time that so many objects were made. While a graph, a
    model or a table is built all of them are in use, so that the search is in vain.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # What was made counts as old at once, without a search now.
            gc.freeze()
            gc.unfreeze()
            gc.enable()

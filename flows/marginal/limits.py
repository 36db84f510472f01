"""This file says how wide sums over discrete latents may be, and refuses wider ones."""

from daphne_bridge.graph.graph import Graph

from ..errors import ModelError

__all__ = [
    "MOST_COUNTED",
    "MOST_ENTRIES",
    "MOST_OF_ONE_ROW",
    "MOST_VALUES",
    "TooWideError",
    "too_wide",
]

MOST_ENTRIES = 2**20
"""Most entries of a joined table, for one row."""
MOST_OF_ONE_ROW = 2**23
"""The same where all latents are summed out, so that there is one row."""
MOST_VALUES = 2**15
"""Most values of one latent."""
MOST_COUNTED = 2**11
"""The same of one whose values are cut off for all rows, if it may be sampled."""


class TooWideError(ModelError):
    """The tables over the discrete latents are larger than can be summed."""


def too_wide(graph: Graph, size: int) -> TooWideError:
    """Return the error of a graph whose sums would need so many entries."""
    return TooWideError.at(
        graph.source,
        "the discrete latents depend on each other too widely to be summed out",
        f"tables of at most {MOST_ENTRIES} entries, or `daphne-flows infer`, which "
        "samples some of them",
        f"{size}",
    )

"""This file names the draws that are too large for a flow to be fitted to.

Scales and regressions are made of squares, which beyond 1.3e154 are no numbers.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from ..errors import ModelError
from ..flow.protocol import Flow
from ..model.capabilities import listed
from ..model.draws import Draws
from ..model.layout import Layout

__all__ = ["check_not_too_large", "named_if_too_large"]

_LARGEST = math.sqrt(sys.float_info.max)


@contextmanager
def named_if_too_large(
    flow: Flow, drawn: Callable[[], Draws], layout: Layout, source: str
) -> Iterator[None]:
    """Say which numbers are too large, if that is why a flow cannot be fitted to draws.

    Args:
        flow: The normalisation of which is fitted in the context.
        drawn: Returns what it is fitted to.
        layout: The columns of draws.
        source: Where the model comes from, for the message.

    Raises:
        ModelError: It names them.
    """
    failure = None
    try:
        yield
    except LinAlgError as error:
        failure = error
    is_finite = (bool(each.isfinite().all()) for each in flow.state_dict().values())
    if failure is None and all(is_finite):
        return
    check_not_too_large(drawn(), layout, source)
    if failure is not None:
        raise failure


def check_not_too_large(draws: Draws, layout: Layout, source: str) -> None:
    """Raise if numbers of draws are so large that their squares are none.

    Args:
        draws: Of a model.
        layout: Their columns.
        source: Where the model comes from, for the message.

    Raises:
        ModelError: It names them.
    """
    names = _too_large(draws, layout)
    if names:
        raise ModelError.at(
            source,
            "numbers too large to compute with",
            f"numbers below {_LARGEST:.2g}, whose squares are finite",
            listed(names),
        )


def _too_large(draws: Draws, layout: Layout) -> list[str]:
    """Return the columns of draws that go too far, with the number farthest out."""
    found = []
    for variables, values in (
        (layout.latents, draws.latents),
        (layout.observed, draws.observed),
    ):
        names = [name for v in variables for name in v.column_names]
        for name, column in zip(names, values.T, strict=True):
            far = column[column.abs() > _LARGEST]
            if len(far):
                found.append(f"{name} = {float(far[far.abs().argmax()]):g}")
    return found

"""This file says how much is drawn, so that a budget of time holds for all of a run.

Draws that prepare a flow are counted, not timed: a run that is resumed must prepare the
same flow again. Draws that certify it are timed, by a few of them, before training.
"""

from collections.abc import Callable
from typing import TypeVar

from ..flow.structure import Structure
from .config import TrainingConfig

__all__ = ["certified_in_time", "preparing_draws"]

Found = TypeVar("Found")


_PREPARING = 0.2
"""Share of the budget until training begins, about."""
_PER_NUMBER = 1e-6
"""Seconds of two looks at one number of a draw: scales, regressions."""
_READS_PER_NUMBER = 30
"""Numbers that a regression reads in the same time."""
_PER_OPERATION = 4e-8
"""Seconds of one operation of the model, in two draws."""
_FEWEST_PREPARING = 1_000

_CERTIFYING = 0.04
"""Share of the budget that one certification may take."""
_FEWEST_CERTIFYING = 50
_HANDFUL = 10
"""By so many draws a model is certified of which one takes very long."""
_FAR = 2.0
"""Times what is allowed: so much is not for being the first."""


def preparing_draws(
    config: TrainingConfig, structure: Structure, num_operations: int
) -> int:
    """Joint draws that prepare a flow within its share of the budget.

    Args:
        config: with the most draws, and the budget.
        structure: of the flow.
        num_operations: operations of one draw of the model.

    Example:
        >>> from flows.flow.structure import StateBlock
        >>> one = Structure((StateBlock("z", (0,), 0, (), (0,)),), 1)
        >>> preparing_draws(TrainingConfig(budget_seconds=60.0), one, 10)
        40000
    """
    if not config.budget_seconds:
        return config.normalisation_draws
    own = [len(block.free_columns) for block in structure.blocks]
    reads = sum(
        count
        * (len(block.observed_columns) + sum(own[j] for j in block.latent_parents))
        for count, block in zip(own, structure.blocks, strict=True)
    )
    numbers = sum(own) + structure.observed_dim + reads / _READS_PER_NUMBER
    each = _PER_NUMBER * numbers + _PER_OPERATION * num_operations
    within = int(_PREPARING * config.budget_seconds / each)
    return min(config.normalisation_draws, max(_FEWEST_PREPARING, within))


def certified_in_time(
    config: TrainingConfig, certify: Callable[[int], tuple[Found, float]]
) -> tuple[Found, float, int]:
    """What certifies a flow within its share of the budget, its seconds, its draws.

    Args:
        config: with the most draws, and the budget.
        certify: does it by so many draws; returns what it found, and its seconds.
    """
    most = config.certify_draws
    few = max(_FEWEST_CERTIFYING, most // 10)
    if not config.budget_seconds or few >= most:
        return *certify(most), most
    allowed = _CERTIFYING * config.budget_seconds
    found, seconds = certify(_HANDFUL)
    if seconds > _FAR * allowed:
        return found, seconds, _HANDFUL
    within = 0
    for _ in range(2):  # what is done for the first time takes longer
        found, seconds = certify(few)
        within = max(within, int(few * allowed / max(seconds, 1e-9)))
        if within >= most:
            return *certify(most), most
        if seconds > _FAR * allowed:
            break
    if within > few:
        return *certify(within), within
    return found, seconds, few

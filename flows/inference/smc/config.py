"""This file holds the settings of a run along a path of temperatures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ...errors import ArgumentError
from .moves import Move, RandomWalk
from .schedule import Stage

__all__ = ["AnnealingConfig"]

_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = MappingProxyType(
    {
        "most_moves": (lambda value: value >= 0, "0 or more"),
        "correlation": (lambda value: 0.0 <= value < 1.0, "from 0 to below 1"),
        "cess_fraction": (lambda value: 0.0 < value < 1.0, "between 0 and 1"),
        "ess_threshold": (lambda value: 0.0 <= value <= 1.0, "from 0 to 1"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class AnnealingConfig:
    """What decides a run, besides its particles.

    Attributes:
        move: How particles move.
        most_moves: Largest number of moves at each temperature.
        correlation: Moves end when particles are correlated no more than this with
            where they were; 0 makes `most_moves` of them at every temperature.
        cess_fraction: How much of the conditional ess each temperature step keeps.
        ess_threshold: Resample if ess / N is below it.
        scheme: A name in `resampling.SCHEMES`.
        schedule: The stages of an earlier run, which make the estimate of the evidence
            unbiased; None finds them on the way.

    Raises:
        ArgumentError: If a number is out of range.
    """

    move: Move = field(default_factory=RandomWalk)
    most_moves: int = 25
    correlation: float = 0.2
    cess_fraction: float = 0.9
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    schedule: Sequence[Stage] | None = None

    def __post_init__(self) -> None:
        for name, (is_good, expected) in _RANGES.items():
            value = getattr(self, name)
            if not is_good(value):
                raise ArgumentError.at(
                    f"annealing: {name}", "out of range", expected, str(value)
                )

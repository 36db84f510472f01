"""This file owns `Clock`: the time that an answer may take, and who is told of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Clock", "OutOfTime"]


class OutOfTime(Exception):
    """A budget of time is used up."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A budget of seconds of the wall clock, and who is told how far the work is.

    Attributes:
        seconds: Most time; inf without a budget.
        tell: Called with the share that is done, and a note.
        started: When, as `time.perf_counter` counts.
    """

    seconds: float
    tell: Callable[[float, str], None] | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        """Seconds that are left; inf without a budget."""
        return self.seconds - self.passed

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left < 0.0

    def check(self) -> None:
        """Raise if nothing is left.

        Raises:
            OutOfTime: If so.
        """
        if self.is_over():
            raise OutOfTime

    def say(self, share: float, note: str) -> None:
        """Tell how far the work is."""
        if self.tell is not None:
            self.tell(share, note)

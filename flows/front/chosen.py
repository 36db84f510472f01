"""This file is the nuisances that were chosen for a run, and what that took."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..training.config import TrainingConfig

__all__ = ["FEWEST", "Chosen"]

FEWEST = 2
"""Nuisances of each latent at least."""

_LEAST_LEFT = 0.3
"""Share of the budget that is left for the training itself, whatever was used."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was found, and what it took.

    Attributes:
        nuisances: Of each latent, by the document's name.
        seconds: Of the budget, that are used.
    """

    nuisances: Mapping[str, int]
    seconds: float

    def settings(self, whole: TrainingConfig) -> TrainingConfig:
        """Return the settings of the training that follows, with what is left.

        Args:
            whole: Settings in which nuisances are to be chosen.

        Example:
            >>> whole = TrainingConfig(augment="auto", budget_seconds=100.0)
            >>> final = Chosen({"sample0": 7}, 30.0).settings(whole)
            >>> final.budget_seconds, final.augment["sample0"]
            (70.0, 7)
        """
        least = _LEAST_LEFT * whole.budget_seconds
        left = max(least, whole.budget_seconds - self.seconds)
        table = {"default": FEWEST, **self.nuisances}
        return replace(whole, augment=table, budget_seconds=left)

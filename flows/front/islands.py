"""This file compares independent islands of one tempered run, and says how they went.

Where time was for one alone there is nothing to compare it with.

Two islands know nothing of each other, so what they disagree in is an error that
neither sees from inside: half the gap of two log evidences is one draw of the standard
error of their mean. The error given is the larger of this and of what lines of descent
say. Means are compared in their own standard errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.smc.annealing import AnnealingReport
from ..inference.smc.result import SmcResult, merge_runs
from ..storage.json_values import finite_or_none

__all__ = ["Island", "Islands"]


@dataclass(frozen=True, eq=False)
class Island:
    """One run from the prior to the posterior.

    Attributes:
        result: Its particles.
        reports: What happened at each temperature.
    """

    result: SmcResult
    reports: Sequence[AnnealingReport]

    def to_json(self) -> dict[str, Any]:
        """Return its figures and its path as plain values."""
        return {
            "log_evidence": finite_or_none(self.result.log_evidence),
            "standard_error": finite_or_none(self.result.log_evidence_standard_error),
            "ess": finite_or_none(self.result.least_ess),
            "path": [
                {
                    "temperature": each.temperature,
                    "log_evidence": finite_or_none(each.log_evidence),
                    "ess": each.ess,
                    "acceptance": finite_or_none(each.acceptance),
                    "correlation": finite_or_none(each.correlation),
                    "num_moves": each.stage.num_moves,
                }
                for each in self.reports
            ],
        }


@dataclass(frozen=True, eq=False)
class Islands:
    """Independent islands side by side.

    Attributes:
        coordinates: What particles moved in: free or standardised.
        islands: The runs.
    """

    coordinates: str
    islands: tuple[Island, ...]

    @property
    def merged(self) -> SmcResult:
        """All particles, each island counting by its evidence."""
        return merge_runs([island.result for island in self.islands])

    @property
    def evidence_gap(self) -> float:
        """Largest difference of the log evidences, in nats; 0 where all are 0."""
        values = [island.result.log_evidence for island in self.islands]
        return 0.0 if max(values) == -math.inf else max(values) - min(values)

    @property
    def log_evidence_standard_error(self) -> float:
        """Standard error of the merged log evidence, in nats; nan if not known."""
        within = self.merged.log_evidence_standard_error
        values = [island.result.log_evidence for island in self.islands]
        is_alone = len(values) == 1
        if is_alone or math.isnan(within) or not all(map(math.isfinite, values)):
            return within
        spread = torch.tensor(values, dtype=torch.float64).std()
        return max(within, float(spread) / math.sqrt(len(values)))

    @property
    def mean_gap(self) -> tuple[float, float]:
        """Largest difference of a mean: in its standard errors, and in deviations."""
        first, last = (self.islands[i].result for i in (0, -1))
        if first is last or -math.inf in (first.log_evidence, last.log_evidence):
            return math.nan, math.nan
        gap = (first.particles.mean() - last.particles.mean()).abs()
        error = first.mean_standard_error().hypot(last.mean_standard_error())
        inside = (first.particles.sd() * last.particles.sd()).sqrt()
        in_errors = torch.where(gap > 0.0, gap / error, 0.0)
        if not in_errors.numel() or not bool(in_errors.isfinite().all()):
            return math.nan, math.nan
        worst = int(in_errors.argmax())
        return float(in_errors[worst]), float(gap[worst] / inside[worst])

    def to_json(self) -> dict[str, Any]:
        """Return the islands and what they disagree in, as plain values."""
        in_errors, in_deviations = self.mean_gap
        return {
            "coordinates": self.coordinates,
            "disagreement": {
                "log_evidence": finite_or_none(
                    self.evidence_gap if len(self.islands) > 1 else math.nan
                ),
                "mean_in_standard_errors": finite_or_none(in_errors),
                "mean_in_deviations": finite_or_none(in_deviations),
            },
            "islands": [island.to_json() for island in self.islands],
        }

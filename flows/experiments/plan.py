"""This file says how long each experiment runs, in the full and in the fast version."""

from dataclasses import dataclass, replace

from ..training_config import TrainingConfig
from .comparison import ComparisonConfig

__all__ = ["FAST", "FULL", "FigurePlan"]


@dataclass(frozen=True, slots=True)
class FigurePlan:
    """Lengths of all experiments.

    Args:
        structures: figures 4 and 5.
        objectives: figure 6 and appendix D.
        marginals: training for figure 3.
        marginal_draws: draws of each of its samples.
        deconvolution_iterations: of figure 9.
        deconvolution_hidden: hidden units per pixel and layer there.
    """

    structures: ComparisonConfig
    objectives: ComparisonConfig
    marginals: TrainingConfig
    marginal_draws: int
    deconvolution_iterations: int
    deconvolution_hidden: int


FULL = FigurePlan(
    structures=ComparisonConfig(
        iterations=10_000,
        checkpoints=20,
        num_seeds=5,
        num_draws=2000,
        baseline_steps=10,
    ),
    objectives=ComparisonConfig(
        iterations=10_000,
        checkpoints=20,
        num_seeds=5,
        num_draws=4000,
        baseline_steps=10,
    ),
    marginals=replace(TrainingConfig(), budget_seconds=900.0),
    marginal_draws=10_000,
    deconvolution_iterations=20_000,
    deconvolution_hidden=16,
)
"""Many hours on two cores, nearly all of them in the networks without structure."""

FAST = FigurePlan(
    structures=ComparisonConfig(
        iterations=120, checkpoints=3, num_seeds=2, num_draws=200, baseline_steps=5
    ),
    objectives=ComparisonConfig(
        iterations=400, checkpoints=4, num_seeds=2, num_draws=500, baseline_steps=5
    ),
    marginals=replace(TrainingConfig(), budget_seconds=45.0, certify_draws=1000),
    marginal_draws=3000,
    deconvolution_iterations=600,
    deconvolution_hidden=8,
)
"""Minutes: shows that everything runs, not where it ends."""

"""This file says how long each experiment runs, in three lengths."""

from dataclasses import dataclass, replace

from ..training.config import TrainingConfig
from .comparison import ComparisonConfig
from .digits import DigitsConfig
from .energies import EnergiesConfig
from .natural_gradients import NaturalConfig

__all__ = ["LENGTHS", "Lengths"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of all experiments.

    Args:
        structures: figures 4 and 5.
        objectives: figure 6 and appendix D.
        marginals: training for figure 3.
        marginal_draws: draws of each of its samples.
        deconvolution: training for figure 9.
        deconvolution_copies: varied copies of each of its patches.
        energies: finite flows on four energies.
        natural: plain steps beside natural ones.
        digits: weights of a deep latent Gaussian model, and posteriors.
    """

    structures: ComparisonConfig
    objectives: ComparisonConfig
    marginals: TrainingConfig
    marginal_draws: int
    deconvolution: TrainingConfig
    deconvolution_copies: int
    energies: EnergiesConfig
    natural: NaturalConfig
    digits: DigitsConfig


_FORWARD = TrainingConfig(
    objective="forward",
    warm_start_fraction=0.95,
    warm_start_seconds=1e8,
    warm_start_batch_size=128,
    warm_start_learning_rate=5e-3,
    batch_size=64,
    final_batch_size=64,
    learning_rate=1e-3,
    num_certifications=1,
    tolerance=1e-4,
)
"""Nearly all of it flow matching, which needs no solve."""

_USUAL = Lengths(
    structures=ComparisonConfig(
        iterations=400, checkpoints=4, num_seeds=3, num_draws=1000, baseline_steps=5
    ),
    objectives=ComparisonConfig(
        iterations=2000, checkpoints=4, num_seeds=3, num_draws=2000, baseline_steps=5
    ),
    marginals=TrainingConfig(augment=2, budget_seconds=870.0),
    marginal_draws=10_000,
    deconvolution=replace(_FORWARD, budget_seconds=900.0, certify_draws=400),
    deconvolution_copies=40,
    energies=EnergiesConfig(iterations=6000, continuous_iterations=2000, points=400),
    natural=NaturalConfig(),
    digits=DigitsConfig(
        images=1000, held_out=300, learning_seconds=1800.0, seconds=240.0
    ),
)
"""An hour or two on one core, half of it in the networks without structure."""

_PAPER = replace(
    _USUAL,
    structures=replace(
        _USUAL.structures, iterations=10_000, checkpoints=5, baseline_steps=10
    ),
    objectives=replace(_USUAL.objectives, iterations=10_000, num_seeds=5),
)
"""The paper's iterations: most of a day on one core."""

_FAST = Lengths(
    structures=ComparisonConfig(
        iterations=120, checkpoints=3, num_seeds=2, num_draws=200, baseline_steps=5
    ),
    objectives=ComparisonConfig(
        iterations=400, checkpoints=4, num_seeds=2, num_draws=500, baseline_steps=5
    ),
    marginals=TrainingConfig(augment=2, budget_seconds=45.0, certify_draws=1000),
    marginal_draws=3000,
    deconvolution=replace(_FORWARD, budget_seconds=60.0, certify_draws=50),
    deconvolution_copies=10,
    energies=EnergiesConfig(iterations=1500, continuous_iterations=400, points=300),
    natural=NaturalConfig(),
    digits=DigitsConfig(images=300, held_out=200, learning_seconds=400.0, seconds=40.0),
)
"""Minutes: shows that everything runs, not where it ends."""

LENGTHS = {"fast": _FAST, "usual": _USUAL, "paper": _PAPER}
"""By name of the length."""

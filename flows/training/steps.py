"""This file draws the batches of a period and takes the steps of Adam."""

import math

import torch

from ..flow.protocol import Flow
from .batches import Batch, draw_batch
from .phases import LossInput, Phase
from .run import Run
from .state import Progress

__all__ = ["batches_of", "step"]


def batches_of(run: Run, phase: Phase, progress: Progress) -> list[Batch]:
    """The batches of one period, drawn at once."""
    share = phase.share(run.config, progress, progress.seconds)
    size = phase.batch_size(run.config, share)
    num = size * run.config.report_every
    whole = draw_batch(
        run.model, run.flow, num, generator=run.generator, scored=phase.is_scored
    )
    return [whole.rows(start, start + size) for start in range(0, num, size)]


def step(
    run: Run, flow: Flow, phase: Phase, batch: Batch, progress: Progress, rate: float
) -> float:
    """One step of Adam along the gradient of the phase's loss.

    Args:
        run: whose weights change.
        flow: the run's, solved as in training.
        phase: what is minimised.
        batch: all rows; each process takes its own.
        progress: where the run is.
        rate: Adam's.

    Returns:
        The loss; nan, and no weight has changed, if it or its gradient is not finite.
    """
    weights, ranks, config, count = run.weights, run.ranks, run.config, len(batch.free)
    weights.gradient.zero_()
    own = slice(
        count * ranks.rank // ranks.size, count * (ranks.rank + 1) // ranks.size
    )
    terms = phase.terms(
        LossInput(run.model, flow, batch, own, config, progress, run.generator)
    )
    share = terms.sum() / count
    loss = share.detach().clone()
    ranks.sum_(loss)
    if not torch.isfinite(loss):
        return math.nan
    try:
        share.backward()  # type: ignore[no-untyped-call]
    except AssertionError:  # torchdiffeq: the adjoint solve gave up
        weights.gradient.fill_(torch.nan)
    ranks.sum_(weights.gradient)
    has_stepped = weights.step(rate, config.gradient_clip, config.average)
    return float(loss) if has_stepped else math.nan

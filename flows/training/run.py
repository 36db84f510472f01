"""This file holds what a training run works on, and turns it into a state and back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flow.kinds import in_steps
from ..flow.protocol import Flow
from .batches import TargetModel
from .config import TrainingConfig
from .processes import Ranks
from .state import DONE, Progress, TrainingState
from .weights import FlatWeights

__all__ = ["Run"]

_FIXED = "fixed."


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What stays while a run goes on; only tensors change in place.

    Args:
        model: the target.
        held_out: draws that certify the flow.
        flow: what is trained.
        config: all numbers.
        ranks: the processes that share the rows of each batch.
        generator: source of the draws of training.
        weights: the flow's, with their Adam, average and best.
    """

    model: TargetModel
    held_out: TargetModel
    flow: Flow
    config: TrainingConfig
    ranks: Ranks
    generator: torch.Generator
    weights: FlatWeights

    @property
    def has_j(self) -> bool:
        """Whether J is what is certified, zero where the flow is exact."""
        return self.model.has_density and self.config.amortised

    def solved(self, num_steps: int) -> Flow:
        """The flow as training solves it, in so many steps if it has any."""
        return in_steps(self.flow, num_steps)

    def average(self, progress: Progress) -> Tensor:
        """Averaged weights; during the warm start the weights themselves."""
        is_warm = progress.phase == "warm start"
        return self.weights.values if is_warm else self.weights.average

    def result(self, progress: Progress) -> Tensor:
        """The best certified weights, the average if there are none."""
        has_best = progress.best is not None or progress.phase == DONE
        return self.weights.best if has_best else self.average(progress)

    def state(self, progress: Progress) -> TrainingState:
        """All that a continuation needs."""
        fixed = self.weights.fixed(self.flow)
        tensors = {
            **self.weights.tensors(),
            **{f"{_FIXED}{name}": tensor for name, tensor in fixed.items()},
            "generator": self.generator.get_state(),
        }
        return TrainingState(tensors, progress.as_values())

    def restored(self, state: TrainingState, seed: int) -> Progress:
        """Takes a state over; returns its progress.

        Raises:
            ArgumentError: if the state is of another run.
        """
        progress = Progress.from_values(state.values, seed)
        self.weights.restore(state.tensors)
        fixed = {
            name.removeprefix(_FIXED): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(_FIXED)
        }
        self.flow.load_state_dict({**self.flow.state_dict(), **fixed})
        self.generator.set_state(state.tensors["generator"].cpu())
        return progress

r"""This file trains by the paper's schedule, so that networks can be compared alike.

Adam with batches of 100 and a learning rate of 1e-2, then 1e-3, then 5e-4; latents and
observed values at zero mean and unit variance and nothing else (no warm start, no
affine layer, no weight average). One addition: gradients longer than `clip` are cut.

References:
    Weilbach et al., AISTATS 2020, sections 3.3 and 4.2.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..cnf.flow import ConditionalFlow
from ..training.batches import TargetModel

__all__ = [
    "Loss",
    "PublishedConfig",
    "Step",
    "fit_scales",
    "scales_from_model",
    "train_as_published",
]

Loss = Callable[[torch.Generator], Tensor]
"""Mean loss of a fresh batch."""


@dataclass(frozen=True, slots=True)
class PublishedConfig:
    """Numbers of the schedule.

    Args:
        iterations: in all.
        rates: learning rates and the fraction of the iterations where each ends.
        clip: largest norm of a gradient.
    """

    iterations: int
    rates: tuple[tuple[float, float], ...] = ((0.5, 1e-2), (0.8, 1e-3), (1.0, 5e-4))
    clip: float = 10.0

    def rate(self, iteration: int) -> float:
        """Learning rate of an iteration, from 0."""
        fraction = iteration / self.iterations
        return next(rate for end, rate in self.rates if fraction < end)


@dataclass(frozen=True, slots=True)
class Step:
    """One iteration.

    Args:
        iteration: how many are done.
        loss: of the batch, in nats; noisy where the divergence is.
        is_skipped: the loss or its gradient was not finite, and weights stayed.
        state: returns what a run that goes on from here needs, see
            `train_as_published`.
    """

    iteration: int
    loss: float
    is_skipped: bool
    state: Callable[[], dict[str, Any]]


def train_as_published(
    flow: ConditionalFlow,
    loss: Loss,
    config: PublishedConfig,
    *,
    seed: int,
    state: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Yields a step after each iteration; the flow is changed in place.

    Args:
        flow: with its scales fitted.
        loss: of a fresh batch.
        config: the schedule.
        seed: of the batches.
        state: of an earlier run with equal arguments, which is gone on with.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in flow.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters)
    done = 0
    if state is not None:
        flow.load_state_dict(state["flow"])
        adam.load_state_dict(state["adam"])
        generator.set_state(state["generator"])
        done = state["iteration"]

    def reached() -> dict[str, Any]:
        return {
            "iteration": done,
            "flow": flow.state_dict(),
            "adam": adam.state_dict(),
            "generator": generator.get_state(),
        }

    for iteration in range(done, config.iterations):
        for group in adam.param_groups:
            group["lr"] = config.rate(iteration)
        adam.zero_grad()
        value = loss(generator)
        is_finite = bool(torch.isfinite(value))
        if is_finite:
            value.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            is_finite = bool(torch.isfinite(norm))
        if is_finite:
            adam.step()
        done = iteration + 1
        yield Step(done, float(value.detach()), not is_finite, reached)


@torch.no_grad()
def fit_scales(flow: ConditionalFlow, free: Tensor, observed: Tensor) -> None:
    """Sets the flow's shift and scale to mean and standard deviation of draws.

    A column without variance keeps scale 1; nuisances keep shift 0 and scale 1.
    """
    normalisation = flow.normalisation
    padding = free.new_zeros(free.shape[0], flow.structure.nuisance_dim)
    state = torch.cat([free, padding], -1)[:, list(flow.structure.state_order)]
    for draws, shift, scale in (
        (state, normalisation.shift, normalisation.scale),
        (observed, normalisation.observed_shift, normalisation.observed_scale),
    ):
        deviation = draws.std(0)
        shift.copy_(draws.mean(0))
        scale.copy_(torch.where(deviation > 0, deviation, 1.0))


def scales_from_model(
    flow: ConditionalFlow, model: TargetModel, num_draws: int, *, seed: int
) -> None:
    """Sets the flow's shift and scale from joint draws of a model."""
    generator = torch.Generator().manual_seed(seed)
    draws = model.sample(num_draws, generator=generator)
    fit_scales(flow, model.unconstrain(draws.latents)[0], draws.observed)

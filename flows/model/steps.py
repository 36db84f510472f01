"""This file runs groups of elementwise operations, choices, sorts and maps."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from .gathering import Gathering, Run, Step
from .jobs import Job
from .kernels import KERNELS, RISKY, guarded, pick
from .random_steps import add_densities, add_draws
from .sum_steps import add_sums
from .support import BIJECTIONS

__all__ = ["add_step"]


def add_step(gathering: Gathering, jobs: list[Job]) -> Step | None:
    """Return the step of one group, and note where its results will stand.

    None if there is nothing to do: the group is formed by those that read it.
    """
    return _STEPS.get(jobs[0].operation, _elementwise)(gathering, jobs)


def _elementwise(gathering: Gathering, jobs: list[Job]) -> Step:
    name = jobs[0].operation
    kernel = KERNELS[name]
    fetches = gathering.arguments(jobs, [()] * len(jobs[0].arguments))
    outputs = [job.outputs[0] for job in jobs]
    is_guarded = name in RISKY and not gathering.work.in_branch.isdisjoint(outputs)
    keeps_finite = name not in RISKY or name == "multiply"
    for job in jobs:
        gathering.finite[job.outputs[0]] = keeps_finite and all(
            gathering.is_finite(slot) or gathering.dag.is_constant(slot)
            for slot in job.inputs
        )
    gathering.register(outputs)
    if is_guarded:
        return lambda run: run.tensors.append(
            guarded(kernel, [fetch(run) for fetch in fetches])
        )
    return lambda run: run.tensors.append(kernel(*[fetch(run) for fetch in fetches]))


def _bundles(gathering: Gathering, jobs: list[Job]) -> Step:
    fetch = gathering.rows([slot for job in jobs for slot in job.inputs])
    size = len(jobs[0].inputs)
    gathering.register_bundles([job.outputs[0] for job in jobs], size)
    return lambda run: run.tensors.append(fetch(run))


def _rows_of_bundles(
    gathering: Gathering, bundles: list[int], size: int
) -> tuple[int, Tensor]:
    """Return the tensor that bundles stand in, and the rows of each."""
    addresses = [gathering.address[slot] for slot in bundles]
    starts = torch.tensor([row for _, row in addresses])[:, None]
    return addresses[0][0], starts + torch.arange(size)


def _selections(gathering: Gathering, jobs: list[Job]) -> Step:
    index = gathering.argument([job.arguments[0] for job in jobs])
    bundles = [job.arguments[1][0] for job in jobs]
    source, rows = _rows_of_bundles(gathering, bundles, jobs[0].key)
    number = gathering.constant(rows)
    gathering.register([job.outputs[0] for job in jobs])
    return lambda run: run.tensors.append(
        pick(index(run), run.constants[number], run.tensors[source])
    )


def _order_statistics(gathering: Gathering, jobs: list[Job]) -> Step:
    size, position = jobs[0].key
    bundles = [job.arguments[0][0] for job in jobs]
    source, rows = _rows_of_bundles(gathering, bundles, size)
    number = gathering.constant(rows.flatten())
    gathering.register([job.outputs[0] for job in jobs])

    def step(run: Run) -> None:
        items = run.tensors[source].index_select(0, run.constants[number])
        items = items.view(-1, size, items.shape[1])
        run.tensors.append(torch.sort(items, dim=1).values[:, position])

    return step


def _supports(gathering: Gathering, jobs: list[Job]) -> Step:
    """Return the step of a map between free coordinates and a support."""
    bijection = BIJECTIONS[jobs[0].key[0]]
    to_value = jobs[0].operation == "constrain"
    width, num_bounds = len(jobs[0].arguments[0]), len(jobs[0].arguments) - 1
    is_vector = jobs[0].key[0] == "located vector"
    bounds = [(width,), (width, width)] if is_vector else [()] * num_bounds
    shapes = [(width,), *bounds]
    fetches = gathering.arguments(jobs, shapes)
    gathering.register([slot for job in jobs for slot in job.outputs[:-1]])
    gathering.register([job.outputs[-1] for job in jobs])
    apply = bijection.to_value if to_value else bijection.to_free

    def step(run: Run) -> None:
        value, log_det = apply(*(fetch(run) for fetch in fetches))
        run.tensors.append(value.reshape(-1, value.shape[-1]))
        run.tensors.append(log_det)

    return step


_STEPS: Mapping[str, Callable[[Gathering, list[Job]], Step | None]] = MappingProxyType(
    {
        "affine": add_sums,
        "bundle": _bundles,
        "select": _selections,
        "order statistic": _order_statistics,
        "density": add_densities,
        "draw": add_draws,
        "constrain": _supports,
        "unconstrain": _supports,
    }
)

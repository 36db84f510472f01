"""This file runs groups of densities and of draws of one family."""

import math

import torch
from torch import Tensor

from .families import DENSITIES
from .gathering import IN_TOTAL, Gathering, Run, Step
from .jobs import Job
from .kernels import guarded
from .sum_steps import is_deferred, linear_normals
from .totals import density_total

__all__ = ["InvalidDraw", "add_densities", "add_draws"]


class InvalidDraw(Exception):
    """A distribution that is drawn from has parameters without meaning.

    Attributes:
        job: The draw.
        row: The first row for which this is so.
        parameters: The parameters there, as batches of one.
    """

    def __init__(self, job: Job, row: int, parameters: list[Tensor]) -> None:
        super().__init__(job, row)
        self.job = job
        self.row = row
        self.parameters = parameters


def add_densities(gathering: Gathering, jobs: list[Job]) -> Step:
    """Return the step of log densities; those that are only summed are not kept."""
    family, shapes = jobs[0].key
    if is_deferred(gathering, jobs[0]):
        return linear_normals(gathering, jobs)
    density = DENSITIES[family]
    fetches = gathering.arguments(jobs, shapes)
    log_prob = density.log_prob

    def checked(value: Tensor, *parameters: Tensor) -> Tensor:
        result = log_prob(value, *parameters)
        return torch.where(density.validity(*parameters), result, math.nan)

    parameters = [s for job in jobs for part in job.arguments[1:] for s in part]
    must_check = not density.says_nan and not gathering.has_constants_only(parameters)
    kernel = checked if must_check else log_prob
    outputs = [job.outputs[0] for job in jobs]
    if gathering.work.summed.issuperset(outputs):
        gathering.address.update(dict.fromkeys(outputs, IN_TOTAL))
        return lambda run: run.totals.append(
            density_total(family, kernel, [fetch(run) for fetch in fetches])
        )
    gathering.register(outputs)
    if not gathering.work.in_branch.isdisjoint(outputs):
        return lambda run: run.tensors.append(
            guarded(kernel, [fetch(run) for fetch in fetches])
        )
    return lambda run: run.tensors.append(kernel(*(fetch(run) for fetch in fetches)))


def add_draws(gathering: Gathering, jobs: list[Job]) -> Step:
    """Return the step of draws; in a branch, rows without meaning become nan."""
    family, shapes, is_branch = jobs[0].key
    density = DENSITIES[family]
    fetches = gathering.arguments(jobs, shapes)
    inputs = [slot for job in jobs for slot in job.inputs]
    must_check = not gathering.has_constants_only(inputs)
    gathering.register([slot for job in jobs for slot in job.outputs])
    count = len(jobs)

    def step(run: Run) -> None:
        given = [
            value.expand(count, *value.shape[1:-1], run.num_rows)
            for value in (fetch(run) for fetch in fetches)
        ]
        is_valid = density.validity(*given) if must_check else None
        if is_valid is None or bool(is_valid.all()):
            drawn = density.sample(run.generator, *given)
        elif is_branch or (run.is_forgiving and bool(is_valid.any(1).all())):
            safe = [_replaced(value, is_valid) for value in given]
            drawn = density.sample(run.generator, *safe)
            drawn = torch.where(_mask(is_valid, drawn), drawn, math.nan)
        else:
            slot, row = torch.nonzero(~is_valid)[0].tolist()
            parts = [v[slot : slot + 1, ..., row : row + 1] for v in given]
            raise InvalidDraw(jobs[slot], row, parts)
        run.tensors.append(drawn.reshape(-1, run.num_rows))

    return step


def _mask(is_valid: Tensor, like: Tensor) -> Tensor:
    """Return the mask [slot, row] with the dimensions of a value between."""
    slots, rows = is_valid.shape
    return is_valid.view(slots, *([1] * (like.dim() - 2)), rows)


def _replaced(value: Tensor, is_valid: Tensor) -> Tensor:
    """Return a parameter with 1 (for a matrix the identity) where it is not valid."""
    if value.dim() == 4:
        size = value.shape[1]
        safe = torch.eye(size, dtype=value.dtype, device=value.device)[..., None]
    else:
        safe = torch.ones((), dtype=value.dtype, device=value.device)
    return torch.where(_mask(is_valid, value), value, safe)

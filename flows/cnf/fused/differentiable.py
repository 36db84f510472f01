r"""This file gives torch the solve of packed rows, and its gradients.

With A[t, r] and P[t, r] the sums over rows of the cotangent of a_r (see
`vector_field.py`) and of that cotangent times (W u + b)_r at stage time t, and
s = sigmoid(g t + k),

    db = sum_t s A,             dc = sum_t t A,
    dk = sum_t s (1 - s) P,     dg = sum_t t s (1 - s) P.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.lanes import Floats, Pack, aligned, from_lanes, make_packs, to_lanes
from ...kernels.threads import in_threads
from ...kernels.tiles import LANES
from .arrays import Gradients, Tables, Workspace
from .compile import KERNEL
from .plan import Plan
from .preparation import FieldParameters, make_tables, make_workspace, zero_gradients

__all__ = ["FusedSolve"]

_MAX_SUMS = 8
"""Separate gradient sums. Fixed, so that sums do not depend on the threads."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One call of `FusedSolve`, as its adjoint needs it."""

    plan: Plan
    tables: Tables
    times: Tensor
    packs: list[Pack]
    given: Floats
    tape: Floats
    num_rows: int
    num_steps: int
    num_threads: int


class FusedSolve(torch.autograd.Function):
    """The solve as one differentiable function of state and parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        num_steps: int,
        num_threads: int,
        keep: int,
        trace: int,
        state: Tensor,
        observed: Tensor,
        sign: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """End states and log-determinants."""
        named = FieldParameters(
            tuple(p.detach() for p in parameters[5:]),
            *(p.detach() for p in parameters[:5]),
        )
        net = plan.network
        packs = make_packs(sign.numpy())
        tables, times = make_tables(plan, named, num_steps)
        rows, width = state.shape
        end = to_lanes(packs, state.detach().numpy())
        given = to_lanes(packs, observed.numpy()[:, plan.observed_columns])
        log_det = to_lanes(packs, np.zeros((rows, net.num_nodes), dtype=np.float32))
        stages = 4 * num_steps if keep else 1
        tape = aligned(end.size * stages)
        task = _Task(
            plan, tables, times, packs, given, tape, rows, num_steps, num_threads
        )

        def work(job: int, workspace: Workspace) -> None:
            pack = packs[job]
            first = pack.first_group * LANES
            KERNEL.compiled.solve_pack(
                net, tables, workspace, end, first * width, given,
                first * plan.observed_columns.size, log_det, first * net.num_nodes,
                tape, first * width * stages, keep, trace, pack.sign, num_steps,
                pack.groups,
            )  # fmt: skip

        _in_threads(work, plan, len(packs), task)
        ctx.task = task if keep else None
        ctx.trace = trace
        ctx.set_materialize_grads(False)
        return (
            torch.from_numpy(from_lanes(packs, end, rows, width)),
            torch.from_numpy(from_lanes(packs, log_det, rows, net.num_nodes)),
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the start states and of the parameters."""
        task: _Task = ctx.task
        plan, packs, tables = task.plan, task.packs, task.tables
        net = plan.network
        width = int(net.state[-1])
        shapes = ((task.num_rows, width), (task.num_rows, net.num_nodes))
        state_bar, log_det_bar = (
            to_lanes(packs, (torch.zeros(shape) if bar is None else bar).numpy())
            for bar, shape in zip(cotangents, shapes, strict=True)
        )
        trace = int(ctx.trace and cotangents[1] is not None)
        learn = int(any(ctx.needs_input_grad[8:]))
        jobs = min(len(packs), _MAX_SUMS)
        sums = [zero_gradients(tables) for _ in range(max(jobs, 1))]

        def work(job: int, workspace: Workspace) -> None:
            for pack in packs[job::jobs]:
                first = pack.first_group * LANES
                KERNEL.compiled.adjoint_pack(
                    net, tables, workspace, sums[job], state_bar, first * width,
                    task.given, first * plan.observed_columns.size, log_det_bar,
                    first * net.num_nodes, task.tape,
                    first * width * 4 * task.num_steps, trace, learn, pack.sign,
                    task.num_steps, pack.groups,
                )  # fmt: skip

        _in_threads(work, plan, jobs, task)
        start = torch.from_numpy(from_lanes(packs, state_bar, task.num_rows, width))
        if not learn:
            return (None,) * 5 + (start,) + (None,) * (len(ctx.needs_input_grad) - 6)
        total = sums[0]
        for other in sums[1:]:
            for into, add in zip(total, other, strict=True):
                into += add
        if trace:
            scratch = np.empty(
                2 * int(np.diff(net.hidden).max()) ** 2, dtype=np.float32
            )
            KERNEL.compiled.adjoint_tables(
                net, tables, total, task.times.numel(), scratch
            )
        gradients = _named_gradients(task, total)
        return (None, None, None, None, None, start, None, None, *gradients)


def _in_threads(
    work: Callable[[int, Workspace], None], plan: Plan, jobs: int, task: _Task
) -> None:
    """Call ``work(job, workspace)`` for every job, each thread with its workspace."""
    make = partial(make_workspace, plan)
    in_threads(work, range(jobs), task.num_threads, plan.idle, make)


def _named_gradients(task: _Task, total: Gradients) -> list[Tensor]:
    """Gradients in the order of the parameters."""
    plan, times = task.plan, task.times
    shape = (times.numel(), plan.features)
    to_drift = torch.from_numpy(total.drifts).view(shape)
    to_gate = torch.from_numpy(total.gates).view(shape)
    gates = torch.from_numpy(task.tables.gates).view(shape)
    to_logit = to_gate * gates * (1.0 - gates)
    weights = torch.from_numpy(total.weights)
    return [
        torch.from_numpy(total.given),
        (to_drift * gates).sum(0),
        times @ to_drift,
        times @ to_logit,
        to_logit.sum(0),
        *(weights[first:last] for first, last in pairwise(plan.layer_starts)),
    ]

"""This file gives torch the log densities of all columns, and their gradients.

Gradients flow to the networks' parameters, and to what they read, where other networks
gave it. Residuals are data in training. Where it is the mean of all densities that will
be differentiated, as in the warm start, the gradient of their sum is found with them,
in one go (`for_mean`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...kernels.lanes import (
    Floats,
    Integers,
    Pack,
    aligned,
    from_lanes,
    make_packs,
    to_lanes,
)
from ...kernels.threads import in_threads
from ..conditioner import LEAST_SCALE, Conditioner
from .compile import KERNEL
from .plan import Plan, Weights, Workspace, make_plan, make_workspace

__all__ = ["FusedDensity"]

_LEAST_WORK = 200_000
"""Numbers of weights times rows that are worth another thread."""
_READ = 3
"""What networks read, among the arguments of the function that is differentiated."""


@dataclass(frozen=True, slots=True)
class FusedDensity:
    """Log densities of all columns by the compiled kernel, in single precision.

    Args:
        num_threads: threads at most; results do not depend on it.
        for_mean: whether their sum or mean is what will be differentiated; any other
            function takes longer then.
    """

    num_threads: int = 1
    for_mean: bool = False

    def __call__(
        self,
        conditioner: Conditioner,
        read: Float[Tensor, "batch given"],
        residual: Float[Tensor, "batch column"],
    ) -> Float[Tensor, "batch column"]:
        """Log densities, as `conditioner.log_prob` gives them.

        Other precisions and devices, and gradients by residuals, are left to torch.
        """
        parameters = _parameters(conditioner)
        tensors = (read, residual, parameters[0])
        is_plain = all(
            each.dtype == torch.float32 and each.device.type == "cpu"
            for each in tensors
        )
        by_residual = torch.is_grad_enabled() and residual.requires_grad
        if not is_plain or by_residual:
            return conditioner.log_prob(read, residual)
        if conditioner not in _PREPARED:
            plan = make_plan(conditioner, read.shape[-1], LEAST_SCALE)
            _PREPARED[conditioner] = _Prepared(plan, [])
        prepared = _PREPARED[conditioner]
        widths = (prepared.plan.inputs, prepared.plan.num_columns)
        if (read.shape[-1], residual.shape[-1]) != widths or len(read) != len(residual):
            raise ValueError(
                "autoregressive kernel: shapes; expected read and residual "
                f"[rows, {widths[0]}] and [rows, {widths[1]}]; got "
                f"{list(read.shape)} and {list(residual.shape)}"
            )
        found: Tensor = _Densities.apply(  # type: ignore[no-untyped-call]
            prepared, self, conditioner, read, residual, *parameters
        )
        return found


class _Prepared(NamedTuple):
    """A plan, and workspaces that wait for another call."""

    plan: Plan
    idle: list[Workspace]


_PREPARED: WeakKeyDictionary[Conditioner, _Prepared] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Task:
    """One call, as its adjoint needs it."""

    prepared: _Prepared
    packs: list[Pack]
    places: Integers
    read: Floats
    residual: Floats
    shape: tuple[int, int]
    num_threads: int

    def score(self, weights: Weights) -> Tensor:
        """Log densities, [row, column]."""
        found = np.empty_like(self.residual)

        def work(columns: tuple[int, int], workspace: Workspace) -> None:
            KERNEL.compiled.score_columns(
                self.prepared.plan, weights, workspace, self.places, self.read,
                self.residual, found, *columns,
            )  # fmt: skip

        self._in_threads(work)
        return self._rows(found)

    def differentiate(
        self, weights: Weights, bar: Tensor, *, by_read: bool
    ) -> tuple[Tensor, Weights, Tensor]:
        """Log densities, and the gradients that their cotangents ``bar`` give.

        The last are cotangents of the first layer's linear parts, [row, column, unit],
        of no unit unless they are asked for.
        """
        bar_lanes = to_lanes(self.packs, bar.numpy())
        found = np.empty_like(self.residual)
        grad = Weights(*(np.zeros_like(each) for each in weights))
        units = self.prepared.plan.hidden if by_read else 0
        entry_bar = aligned(found.size * units)

        def work(columns: tuple[int, int], workspace: Workspace) -> None:
            KERNEL.compiled.adjoint_columns(
                self.prepared.plan, weights, workspace, grad, self.places, self.read,
                self.residual, bar_lanes, found, entry_bar, *columns,
            )  # fmt: skip

        self._in_threads(work)
        entries = self._rows(entry_bar, units).view(*self.shape, units)
        return self._rows(found), grad, entries

    def _rows(self, lanes: Floats, each: int = 1) -> Tensor:
        rows, columns = self.shape
        return torch.from_numpy(from_lanes(self.packs, lanes, rows, columns * each))

    def _in_threads(self, work: Callable[[tuple[int, int], Workspace], None]) -> None:
        """Call ``work((first, last), workspace)`` for all columns."""
        plan, idle = self.prepared
        rows, columns = self.shape
        size = plan.hidden * (plan.layers * plan.hidden + plan.outputs)
        most = 1 + size * columns * rows // _LEAST_WORK
        threads = max(1, min(self.num_threads, columns, most))
        _ = KERNEL.compiled  # by one thread alone
        bounds = [columns * thread // threads for thread in range(threads + 1)]
        make = partial(make_workspace, plan)
        in_threads(work, list(pairwise(bounds)), threads, idle, make)


class _Densities(torch.autograd.Function):
    """The log densities as a function of what is read and of the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        prepared: _Prepared,
        how: FusedDensity,
        conditioner: Conditioner,
        read: Tensor,
        residual: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """Log densities."""
        packs = make_packs(np.ones(len(read), dtype=np.float32))
        task = _Task(
            prepared,
            packs,
            np.array(
                [(p.first_group, p.groups) for p in packs], dtype=np.int64
            ).reshape(-1, 2),
            to_lanes(packs, read.detach().numpy()),
            to_lanes(packs, residual.detach().numpy()),
            (len(read), prepared.plan.num_columns),
            how.num_threads,
        )
        ctx.task, ctx.conditioner, ctx.of_sum = task, conditioner, None
        ctx.save_for_backward(*parameters)
        weights = _flat(parameters)
        if not (how.for_mean and any(ctx.needs_input_grad)):
            return task.score(weights)
        found, *ctx.of_sum = task.differentiate(
            weights, torch.ones(task.shape), by_read=ctx.needs_input_grad[_READ]
        )
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by what is read and by the parameters."""
        bar, of_sum = cotangents[0], ctx.of_sum
        by_read = ctx.needs_input_grad[_READ]
        factor = float(bar.flatten()[:1].sum())  # 0 where there is no density
        if of_sum is None or not bool((bar == factor).all()):
            factor = 1.0
            _, *of_sum = ctx.task.differentiate(
                _flat(ctx.saved_tensors), bar, by_read=by_read
            )
        grad, entry_bar = of_sum
        gradients = (
            torch.from_numpy(np.float32(factor) * flat).view(parameter.shape)
            for flat, parameter in zip(grad, ctx.saved_tensors, strict=True)
        )
        read_bar = None
        if by_read:
            first = ctx.saved_tensors[Weights._fields.index("first")]
            inputs = ctx.task.prepared.plan.inputs
            read_bar = factor * ctx.conditioner.read_bar(entry_bar, first, inputs)
        return (None, None, None, read_bar, None, *gradients)


def _parameters(conditioner: Conditioner) -> tuple[Tensor, ...]:
    """In the order of `Weights`."""
    return tuple(getattr(conditioner, name) for name in Weights._fields)


def _flat(parameters: tuple[Tensor, ...]) -> Weights:
    return Weights(
        *(each.detach().contiguous().numpy().reshape(-1) for each in parameters)
    )

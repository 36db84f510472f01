r"""This file is the fused engine: a flow's solve and its adjoint in one kernel.

It prepares what `kernel.py` needs, and gives torch the gradients. Rows are sorted
by direction into packs of up to 128 rows, which are solved one after the other (or by
several threads); a row's result does not depend on its batch mates. With
A[t, r] and P[t, r] the sums over rows of the cotangent of a_r (see `vector_field.py`)
and of that cotangent times (W u + b)_r at stage time t, and s = sigmoid(g t + k),

    db = sum_t s A,             dc = sum_t t A,
    dk = sum_t s (1 - s) P,     dg = sum_t t s (1 - s) P.

The kernel is compiled when first used on a machine, for blocks of all sizes, and kept
in the user's cache folder under a hash of its sources. `warm_up` does it with notice.

References:
    Weilbach et al., AISTATS 2020, section 3.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...flow.structure import StateBlock, Structure
from ..solve import Solution, stage_times
from ..vector_field import VectorField
from .compile import compile_afresh, is_compiled, kernels, mark_compiled
from .lanes import Pack, aligned, from_lanes, make_packs, to_lanes
from .plan import MAX_GROUPS, Floats, Plan, make_plan
from .tables import Gradients, Tables, Workspace
from .tiles import LANES

__all__ = [
    "FieldParameters",
    "FusedEngine",
    "Plan",
    "is_compiled",
    "is_usable",
    "make_plan",
    "plan_of",
    "solve_fused",
    "warm_up",
]

_MAX_SUMS = 8
"""Separate gradient sums. Fixed, so that sums do not depend on the threads."""


@dataclass(frozen=True, slots=True)
class FieldParameters:
    """The vector field's parameters, packed as in `structure.Packing`.

    Args:
        weights: per layer.
        observed_weight: first layer's, on observed columns.
        bias: b, all layers joined.
        time_bias: c, likewise.
        gate_rate: g, likewise.
        gate_offset: k, likewise.
    """

    weights: tuple[Tensor, ...]
    observed_weight: Tensor
    bias: Tensor
    time_bias: Tensor
    gate_rate: Tensor
    gate_offset: Tensor

    @classmethod
    def of(cls, field: VectorField) -> "FieldParameters":
        """A field's parameters in single precision."""
        return cls(
            tuple(weight.float() for weight in field.weights),
            field.observed_weight.float(),
            field.bias.float(),
            field.time_bias.float(),
            field.gate_rate.float(),
            field.gate_offset.float(),
        )


@dataclass(frozen=True, slots=True)
class FusedEngine:
    """Graded Runge-Kutta steps of order 4 in the fused kernel: float32, CPU.

    Args:
        num_steps: number of steps.
        num_threads: threads at most; results do not depend on it.
    """

    num_steps: int
    num_threads: int = 1
    is_exact: ClassVar[bool] = True

    def solve(
        self,
        field: VectorField,
        start: Float[Tensor, "direction batch state"],
        observed: Float[Tensor, "direction batch observed"],
        sign: Float[Tensor, " direction"],
        *,
        with_log_det: bool = True,
    ) -> Solution:
        """Ends and per-node log-determinants, with gradients.

        Args:
            field: the vector field; solved in single precision, whatever its own.
            start: residual coordinates where each row starts.
            observed: normalised observed values of each row.
            sign: +1 from base to latents, -1 from latents to base.
            with_log_det: False to leave the log-determinants at 0, which is faster.
        """
        directions, batch, width = start.shape
        end, log_det = solve_fused(
            plan_of(field),
            FieldParameters.of(field),
            start.reshape(-1, width),
            observed.reshape(directions * batch, -1),
            sign.repeat_interleave(batch),
            self.num_steps,
            num_threads=self.num_threads,
            with_log_det=with_log_det,
        )
        return Solution(
            end.view(start.shape),
            log_det.view(directions, batch, -1),
            4 * self.num_steps,
        )

    def with_steps(self, factor: int) -> "FusedEngine":
        """The engine with ``factor`` times the steps."""
        return FusedEngine(self.num_steps * factor, self.num_threads)


_PLANS: WeakKeyDictionary[VectorField, Plan] = WeakKeyDictionary()


def plan_of(field: VectorField) -> Plan:
    """The plan of a field, made once."""
    plan = _PLANS.get(field)
    if plan is None:
        layers, residual = field.config.layers, field.config.residual
        plan = make_plan(field.structure, field.hidden, layers, residual=residual)
        _PLANS[field] = plan
    return plan


def solve_fused(
    plan: Plan,
    parameters: FieldParameters,
    state: Float[Tensor, "batch state"],
    observed: Float[Tensor, "batch observed"],
    sign: Float[Tensor, " batch"],
    num_steps: int,
    *,
    num_threads: int = 1,
    with_log_det: bool = True,
) -> tuple[Float[Tensor, "batch state"], Float[Tensor, "batch node"]]:
    """Ends and per-node log|det d end / d start| of graded Runge-Kutta steps.

    Gradients flow to ``state`` and to the parameters, not to ``observed``.

    Args:
        plan: of the field.
        parameters: of the field, float32 on the CPU.
        state: where each row starts.
        observed: normalised observed values of each row.
        sign: +1 for rows from base to latents, -1 for rows from latents to base.
        num_steps: number of steps.
        num_threads: threads at most; results do not depend on it.
        with_log_det: False to leave the log-determinants at 0, which is faster.

    Raises:
        ValueError: for another precision or device, or gradients to ``observed``.
    """
    tensors = (state, observed, parameters.bias)
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        raise ValueError(
            "fused engine: precision or device; expected float32 on the cpu; got "
            f"{[(t.dtype, t.device.type) for t in tensors]}"
        )
    if observed.requires_grad:
        raise ValueError(
            "fused engine: gradients of observed values; expected observed values "
            "without requires_grad; got some with it (use the torch engine)"
        )
    if num_steps < 1 or not bool((sign.abs() == 1).all()):
        raise ValueError(
            "fused engine: steps and signs; expected at least 1 step and signs of "
            f"+1 or -1; got {num_steps} and {sorted(set(sign.tolist()))}"
        )
    _check_shapes(plan, state, observed, sign)
    inputs = (
        state,
        parameters.observed_weight,
        parameters.bias,
        parameters.time_bias,
        parameters.gate_rate,
        parameters.gate_offset,
        *parameters.weights,
    )
    end, log_det = _FusedSolve.apply(  # type: ignore[no-untyped-call]
        plan,
        num_steps,
        num_threads,
        int(torch.is_grad_enabled() and any(t.requires_grad for t in inputs)),
        int(with_log_det),
        state,
        observed,
        sign,
        *inputs[1:],
    )
    return end, log_det


def _check_shapes(plan: Plan, state: Tensor, observed: Tensor, sign: Tensor) -> None:
    width = int(plan.network.state[-1])
    least = int(plan.observed_columns.max(initial=-1)) + 1
    rows = state.shape[0]
    if (
        state.shape != (rows, width)
        or sign.shape != (rows,)
        or observed.shape[:-1] != (rows,)
        or observed.shape[-1] < least
    ):
        raise ValueError(
            f"fused engine: shapes; expected state [rows, {width}], observed [rows, "
            f"{least} or more] and sign [rows]; got {list(state.shape)}, "
            f"{list(observed.shape)} and {list(sign.shape)}"
        )


def warm_up(on_compile: Callable[[], None] | None = None) -> None:
    """Compile the kernel, or read it from the cache.

    Args:
        on_compile: called first if the kernel has to be compiled (some 20 s, once).
    """
    was_compiled = is_compiled()
    if not was_compiled and on_compile is not None:
        on_compile()
    try:
        _solve_one()
    except Exception:  # a damaged or a full cache shows itself in many ways
        compile_afresh()
        _solve_one()
        return
    if not was_compiled:
        mark_compiled()


@cache
def is_usable(on_compile: Callable[[], None] | None = None) -> bool:
    """Whether the kernel runs on this machine; warns if it does not.

    Args:
        on_compile: see `warm_up`.
    """
    try:
        warm_up(on_compile)
    except Exception as error:  # Numba may be broken in many ways
        warnings.warn(
            f"the fused kernel cannot be used here ({type(error).__name__}: "
            f"{str(error)[:200]}); flows are solved without it, which takes longer",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


@torch.enable_grad()
def _solve_one() -> None:
    """Run all of the kernel once."""
    plan = make_plan(
        Structure((StateBlock("a", (0,), 0, (), (0,)),), 1), [1], 2, residual=False
    )
    one = torch.ones(1)
    all_features = torch.ones(plan.features)
    parameters = FieldParameters((one, one), one, *[all_features] * 4)
    start = torch.zeros(1, 1, requires_grad=True)
    end, log_det = solve_fused(plan, parameters, start, torch.zeros(1, 1), one, 1)
    (end.sum() + log_det.sum()).backward()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Task:
    """One call of `_FusedSolve`, as its adjoint needs it."""

    plan: Plan
    tables: Tables
    times: Tensor
    packs: list[Pack]
    given: Floats
    tape: Floats
    num_rows: int
    num_steps: int
    num_threads: int


class _FusedSolve(torch.autograd.Function):
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
        tables, times = _make_tables(plan, named, num_steps)
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
            kernels().solve_pack(
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
        sums = [_zero_gradients(tables) for _ in range(max(jobs, 1))]

        def work(job: int, workspace: Workspace) -> None:
            for pack in packs[job::jobs]:
                first = pack.first_group * LANES
                kernels().adjoint_pack(
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
            kernels().adjoint_tables(net, tables, total, task.times.numel(), scratch)
        gradients = _named_gradients(task, total)
        return (None, None, None, None, None, start, None, None, *gradients)


def _in_threads(
    work: Callable[[int, Workspace], None], plan: Plan, jobs: int, task: "_Task"
) -> None:
    """Call ``work(job, workspace)`` for every job, each thread with its workspace."""
    threads = max(1, min(task.num_threads, jobs))

    def run(thread: int) -> None:
        try:
            workspace = plan.idle.pop()
        except IndexError:
            workspace = _make_workspace(plan)
        for job in range(thread, jobs, threads):
            work(job, workspace)
        plan.idle.append(workspace)

    if threads <= 1:
        run(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, thread) for thread in range(threads)]:
            future.result()


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


def _make_tables(
    plan: Plan, parameters: FieldParameters, num_steps: int
) -> tuple[Tables, Tensor]:
    """Tables of a solve, and its stage times."""
    net = plan.network
    times = stage_times(num_steps).float()
    column = times.unsqueeze(-1)
    weights = torch.cat(parameters.weights).numpy()
    size = times.numel() * int(net.table[-1])
    has_trace = net.residual and net.num_layers == 3
    tables = Tables(
        weights=weights,
        turned=weights[plan.turn],
        given=parameters.observed_weight.numpy()[plan.turn_observed],
        bias=parameters.bias.contiguous().numpy(),
        gates=torch.sigmoid(column * parameters.gate_rate + parameters.gate_offset)
        .reshape(-1)
        .numpy(),
        drifts=(column * parameters.time_bias).reshape(-1).numpy(),
        start=np.empty(size, dtype=np.float32),
        close=np.empty(size, dtype=np.float32),
        trace=np.zeros(
            times.numel() * int(net.hidden[-1]) if has_trace else 1, dtype=np.float32
        ),
        times=times.numpy(),
    )
    kernels().fill_tables(net, tables, times.numel())
    return tables, times


def _zero_gradients(tables: Tables) -> Gradients:
    return Gradients(
        weights=np.zeros_like(tables.weights),
        given=np.zeros_like(tables.given),
        gates=np.zeros_like(tables.gates),
        drifts=np.zeros_like(tables.drifts),
        start=np.zeros_like(tables.start),
        close=np.zeros_like(tables.close),
        trace=np.zeros_like(tables.trace),
    )


def _make_workspace(plan: Plan) -> Workspace:
    net = plan.network
    lanes = MAX_GROUPS * LANES
    hidden, state = int(net.hidden[-1]), int(net.state[-1])
    inner = (net.num_layers - 1) * hidden
    heights = np.diff(net.hidden)
    levels = max(net.num_layers - 2, 1)
    widest = int(max(heights.max(), np.diff(net.state).max(), net.given[2].max()))
    cells = int((heights * net.columns).max())
    acc = max(widest**2, 2 * cells + levels * int(heights.max()) ** 2)
    matrices = (net.num_layers - 1) * net.chain
    flat = int(net.columns.max()) * lanes
    tanh = aligned(2 * inner * lanes)
    return Workspace(
        base=aligned(hidden * lanes),
        linear=aligned(2 * plan.features * lanes),
        tanh=tanh,
        unit=aligned(2 * inner * lanes) if net.residual else tanh,
        slope=aligned(inner * lanes),
        velocity=aligned(max(hidden, state) * lanes),
        total=aligned(state * lanes),
        slope_bar=aligned(inner * lanes),
        unit_bar=aligned(hidden * lanes),
        stage_bar=aligned(state * lanes),
        first_bar=aligned(hidden * lanes),
        chain=aligned(matrices),
        raw=aligned(max(matrices, flat)),
        bar=aligned(max(net.chain, flat)),
        turn=aligned(net.chain),
        acc=aligned(acc * LANES),
        sums=aligned(2 * plan.features * LANES),
    )

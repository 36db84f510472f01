r"""This file is the fused engine: a flow's solve and its adjoint in one kernel.

It prepares what `fused_kernel.py` needs, and gives torch the gradients. Rows are sorted
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

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import llvmlite
import numba
import numpy as np
import torch
from jaxtyping import Float
from numba.core import config
from numpy.typing import NDArray
from torch import Tensor

from . import fused_kernel, fused_tiles
from .fused_kernel import Gradients, Network, Tables, Workspace
from .fused_tiles import LANES
from .solve import Solution
from .structure import StateBlock, Structure
from .vector_field import VectorField

__all__ = [
    "FieldParameters",
    "FusedEngine",
    "Plan",
    "is_compiled",
    "make_plan",
    "solve_fused",
    "warm_up",
]

_MAX_GROUPS = 8
"""Groups of 16 rows in a pack: a pack's layers stay in the second-level cache."""
_CHAIN_BYTES = 10_000
"""Aim for one matrix of a chain; four of them stay in the first-level cache."""
_MAX_SUMS = 8
"""Separate gradient sums. Fixed, so that sums do not depend on the threads."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


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


@dataclass(frozen=True)
class Plan:
    """What the kernel knows of a structure.

    Args:
        network: the blocks.
        layer_starts: first packed weight of each layer, and their number.
        turn: position of each weight's block transposed: turned = weights[turn].
        turn_observed: likewise for the observed weights.
        observed_columns: observed columns of node 0, of node 1, ...
        features: outputs of all layers together.
    """

    network: Network
    layer_starts: tuple[int, ...]
    turn: Integers
    turn_observed: Integers
    observed_columns: Integers
    features: int


def make_plan(
    structure: Structure, hidden: Sequence[int], num_layers: int, *, residual: bool
) -> Plan:
    """The plan of a field with ``hidden[i]`` units per hidden layer in node i."""
    state, rows = structure.sizes, tuple(hidden)
    if num_layers < 2 or len(rows) != len(state):
        raise ValueError(
            "fused engine: shape of the field; expected at least 2 layers and "
            f"{len(state)} hidden sizes; got {num_layers} and {len(rows)}"
        )
    pattern = [(*block.latent_parents, i) for i, block in enumerate(structure.blocks)]
    edges = [(i, j) for i, columns in enumerate(pattern) for j in columns]
    order = sorted(range(len(edges)), key=lambda b: (edges[b][1], edges[b][0]))
    widths = [state, *[rows] * (num_layers - 1), state]
    forward = np.zeros((num_layers, 3, len(edges)), dtype=np.int64)
    backward = np.zeros_like(forward)
    diagonal = np.zeros((num_layers, 3, len(state)), dtype=np.int64)
    turns: list[Integers] = []
    layer_starts = [0]
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes = [(outputs[i], inputs[j]) for i, j in edges]
        starts, turn = _turned(shapes, layer_starts[-1])
        turns.append(turn)
        layer_starts.append(layer_starts[-1] + turn.size)
        from_input, from_output = _starts(inputs), _starts(outputs)
        for block, (i, j) in enumerate(edges):
            forward[layer, :, block] = from_input[j], starts[block], inputs[j]
            if i == j:
                diagonal[layer, :, i] = 0, starts[block], inputs[j]
        for place, block in enumerate(order):
            i = edges[block][0]
            backward[layer, :, place] = from_output[i], starts[block], outputs[i]
    counts = [len(block.observed_columns) for block in structure.blocks]
    observed_starts, turn_observed = _turned(list(zip(rows, counts, strict=True)), 0)
    closed = [_is_closed(s, h, num_layers) for s, h in zip(state, rows, strict=True)]
    columns = [
        h if is_closed else s
        for s, h, is_closed in zip(state, rows, closed, strict=True)
    ]
    cells = [h * c for h, c in zip(rows, columns, strict=True)]
    batch = [
        min(_MAX_GROUPS, max(1, _CHAIN_BYTES // (4 * LANES * size))) for size in cells
    ]
    chain = max(size * b * LANES for size, b in zip(cells, batch, strict=True))
    zeros = np.zeros(len(state), dtype=np.int64)
    network = Network(
        num_nodes=len(state),
        num_layers=num_layers,
        residual=int(residual),
        state=_starts(state),
        hidden=_starts(rows),
        columns=_integers(columns),
        closed=_integers(closed),
        table=_starts(cells),
        batch=_integers(batch),
        rows=_starts([len(line) for line in pattern]),
        forward=forward,
        cols=_starts([sum(j == k for _, j in edges) for k in range(len(state))]),
        backward=backward,
        diagonal=diagonal,
        table_blocks=np.stack([zeros, zeros, _integers(rows)]),
        column_blocks=np.stack([zeros, zeros, _integers(columns)]),
        given=np.stack([_starts(counts)[:-1], observed_starts, _integers(counts)]),
        chain=chain,
    )
    return Plan(
        network=network,
        layer_starts=tuple(layer_starts),
        turn=np.concatenate(turns),
        turn_observed=turn_observed,
        observed_columns=_integers(
            [c for block in structure.blocks for c in block.observed_columns]
        ),
        features=(num_layers - 1) * sum(rows) + sum(state),
    )


def _is_closed(state: int, hidden: int, num_layers: int) -> bool:
    """Whether the closed form of a node's trace takes fewer multiplications."""
    if num_layers == 2:
        return False
    return num_layers == 3 or (num_layers - 3) * hidden < (num_layers - 2) * state


def _integers(values: Sequence[int]) -> Integers:
    return np.asarray(values, dtype=np.int64)


def _starts(sizes: Sequence[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _turned(shapes: Sequence[tuple[int, int]], start: int) -> tuple[Integers, Integers]:
    """Each block's start, and the packed positions with every block transposed."""
    starts, parts = [], [np.zeros(0, dtype=np.int64)]
    for height, width in shapes:
        starts.append(start)
        block = np.arange(start, start + height * width).reshape(height, width)
        parts.append(block.T.reshape(-1))
        start += height * width
    return _integers(starts), np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Pack:
    """Rows of one direction that are solved together."""

    rows: Integers
    sign: int
    first_group: int
    groups: int


def _make_packs(signs: Floats) -> list[_Pack]:
    packs: list[_Pack] = []
    first = 0
    for sign in (1, -1):
        rows = np.flatnonzero(signs == sign)
        groups = -(-rows.size // LANES)
        count = -(-groups // _MAX_GROUPS)
        done = 0
        for number in range(count):
            size = (groups - done) // (count - number)
            part = rows[done * LANES : (done + size) * LANES]
            packs.append(_Pack(part, sign, first, size))
            done += size
            first += size
    return packs


def _to_lanes(packs: list[_Pack], rows: Floats) -> Floats:
    """[row, feature] -> per pack [feature, group, lane], missing rows zero."""
    features = rows.shape[1]
    total = sum(pack.groups for pack in packs) * LANES * features
    lanes = _aligned(total)
    lanes[:] = 0.0
    for pack in packs:
        view = _pack_view(lanes, pack, features)
        view[:, : pack.rows.size] = rows[pack.rows].T
    return lanes


def _from_lanes(packs: list[_Pack], lanes: Floats, rows: int, features: int) -> Floats:
    """Inverse of `_to_lanes`."""
    result = np.empty((rows, features), dtype=np.float32)
    for pack in packs:
        view = _pack_view(lanes, pack, features)
        result[pack.rows] = view[:, : pack.rows.size].T
    return result


def _pack_view(lanes: Floats, pack: _Pack, features: int) -> Floats:
    start = pack.first_group * LANES * features
    stop = start + pack.groups * LANES * features
    return lanes[start:stop].reshape(features, pack.groups * LANES)


def _aligned(size: int) -> Floats:
    """Uninitialised numbers that start on a cache line."""
    line = 4 * LANES
    whole = np.empty(size * 4 + line, dtype=np.uint8)
    shift = -whole.ctypes.data % line
    return whole[shift : shift + 4 * size].view(np.float32)


def _make_workspace(plan: Plan, groups: int) -> Workspace:
    net = plan.network
    lanes = groups * LANES
    hidden, state = int(net.hidden[-1]), int(net.state[-1])
    inner = (net.num_layers - 1) * hidden
    heights = np.diff(net.hidden)
    levels = max(net.num_layers - 2, 1)
    widest = int(max(heights.max(), np.diff(net.state).max(), net.given[2].max()))
    cells = int((heights * net.columns).max())
    acc = max(widest**2, 2 * cells + levels * int(heights.max()) ** 2)
    matrices = (net.num_layers - 1) * net.chain
    flat = int(net.columns.max()) * lanes
    tanh = _aligned(inner * lanes)
    return Workspace(
        base=_aligned(hidden * lanes),
        linear=_aligned(plan.features * lanes),
        tanh=tanh,
        unit=_aligned(inner * lanes) if net.residual else tanh,
        slope=_aligned(inner * lanes),
        velocity=_aligned(max(hidden, state) * lanes),
        total=_aligned(state * lanes),
        slope_bar=_aligned(inner * lanes),
        alpha=_aligned(max(hidden, state) * lanes),
        unit_bar=_aligned(hidden * lanes),
        stage_bar=_aligned(state * lanes),
        first_bar=_aligned(hidden * lanes),
        chain=_aligned(matrices),
        raw=_aligned(max(matrices, flat)),
        bar=_aligned(max(net.chain, flat)),
        turn=_aligned(net.chain),
        acc=_aligned(acc * LANES),
        sums=_aligned(2 * plan.features * LANES),
    )


def _make_tables(
    plan: Plan, parameters: FieldParameters, num_steps: int
) -> tuple[Tables, Tensor]:
    """Tables of a solve, and its stage times."""
    net = plan.network
    times = torch.linspace(0.0, 1.0, 2 * num_steps + 1)
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
    )
    _kernels().fill_tables(net, tables, times.numel())
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


@dataclass(frozen=True, slots=True)
class _Task:
    """One call of `_FusedSolve`, as its adjoint needs it."""

    plan: Plan
    tables: Tables
    times: Tensor
    packs: list[_Pack]
    given: Floats
    tape: Floats
    num_rows: int
    num_steps: int
    num_threads: int


def _in_threads(
    work: Callable[[int, Workspace], None], plan: Plan, jobs: int, task: "_Task"
) -> None:
    """Call ``work(job, workspace)`` for every job, each thread with its workspace."""
    groups = max((pack.groups for pack in task.packs), default=1)
    threads = min(task.num_threads, jobs)

    def run(thread: int) -> None:
        workspace = _make_workspace(plan, groups)
        for job in range(thread, jobs, threads):
            work(job, workspace)

    if threads <= 1:
        run(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, thread) for thread in range(threads)]:
            future.result()


class _FusedSolve(torch.autograd.Function):
    """The solve as one differentiable function of state and parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        num_steps: int,
        num_threads: int,
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
        keep = int(any(ctx.needs_input_grad))
        packs = _make_packs(sign.numpy())
        tables, times = _make_tables(plan, named, num_steps)
        rows, width = state.shape
        end = _to_lanes(packs, state.detach().numpy())
        given = _to_lanes(packs, observed.numpy()[:, plan.observed_columns])
        log_det = _to_lanes(packs, np.zeros((rows, net.num_nodes), dtype=np.float32))
        stages = 4 * num_steps if keep else 1
        tape = _aligned(end.size * stages)
        task = _Task(
            plan, tables, times, packs, given, tape, rows, num_steps, num_threads
        )

        def work(job: int, workspace: Workspace) -> None:
            pack = packs[job]
            first = pack.first_group * LANES
            _kernels().solve_pack(
                net, tables, workspace, end, first * width, given,
                first * plan.observed_columns.size, log_det, first * net.num_nodes,
                tape, first * width * stages, keep, pack.sign, num_steps, pack.groups,
            )  # fmt: skip

        _in_threads(work, plan, len(packs), task)
        ctx.task = task if keep else None
        return (
            torch.from_numpy(_from_lanes(packs, end, rows, width)),
            torch.from_numpy(_from_lanes(packs, log_det, rows, net.num_nodes)),
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the start states and of the parameters."""
        task: _Task = ctx.task
        plan, packs, tables = task.plan, task.packs, task.tables
        net = plan.network
        width = int(net.state[-1])
        state_bar = _to_lanes(packs, cotangents[0].numpy())
        log_det_bar = _to_lanes(packs, cotangents[1].numpy())
        jobs = min(len(packs), _MAX_SUMS)
        sums = [_zero_gradients(tables) for _ in range(max(jobs, 1))]

        def work(job: int, workspace: Workspace) -> None:
            for pack in packs[job::jobs]:
                first = pack.first_group * LANES
                _kernels().adjoint_pack(
                    net, tables, workspace, sums[job], state_bar, first * width,
                    task.given, first * plan.observed_columns.size, log_det_bar,
                    first * net.num_nodes, task.tape,
                    first * width * 4 * task.num_steps, pack.sign, task.num_steps,
                    pack.groups,
                )  # fmt: skip

        _in_threads(work, plan, jobs, task)
        total = sums[0]
        for other in sums[1:]:
            for into, add in zip(total, other, strict=True):
                into += add
        scratch = np.empty(int(np.diff(net.hidden).max()), dtype=np.float32)
        _kernels().adjoint_tables(net, tables, total, task.times.numel(), scratch)
        start = torch.from_numpy(_from_lanes(packs, state_bar, task.num_rows, width))
        gradients = _named_gradients(task, total)
        return (None, None, None, start, None, None, *gradients)


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


def solve_fused(
    plan: Plan,
    parameters: FieldParameters,
    state: Float[Tensor, "batch state"],
    observed: Float[Tensor, "batch observed"],
    sign: Float[Tensor, " batch"],
    num_steps: int,
    *,
    num_threads: int = 1,
) -> tuple[Float[Tensor, "batch state"], Float[Tensor, "batch node"]]:
    """Ends and per-node log|det d end / d start| of equal Runge-Kutta steps.

    Gradients flow to ``state`` and to the parameters, not to ``observed``.

    Args:
        plan: of the field.
        parameters: of the field, float32 on the CPU.
        state: where each row starts.
        observed: normalised observed values of each row.
        sign: +1 for rows from base to latents, -1 for rows from latents to base.
        num_steps: number of steps.
        num_threads: threads at most; results do not depend on it.

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
    end, log_det = _FusedSolve.apply(  # type: ignore[no-untyped-call]
        plan,
        num_steps,
        num_threads,
        state,
        observed,
        sign,
        parameters.observed_weight,
        parameters.bias,
        parameters.time_bias,
        parameters.gate_rate,
        parameters.gate_offset,
        *parameters.weights,
    )
    return end, log_det


_PLANS: WeakKeyDictionary[VectorField, Plan] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class FusedEngine:
    """Equal Runge-Kutta steps of order 4 in the fused kernel: float32, CPU.

    Args:
        num_steps: number of steps.
        num_threads: threads at most; results do not depend on it.
    """

    num_steps: int
    num_threads: int = 1

    def solve(
        self,
        field: VectorField,
        start: Float[Tensor, "direction batch state"],
        observed: Float[Tensor, "direction batch observed"],
        sign: Float[Tensor, " direction"],
    ) -> Solution:
        """Ends and per-node log-determinants, with gradients.

        Args:
            field: the vector field.
            start: residual coordinates where each row starts.
            observed: normalised observed values of each row.
            sign: +1 from base to latents, -1 from latents to base.
        """
        plan = _PLANS.get(field)
        if plan is None:
            config = field.config
            plan = make_plan(
                field.structure, field.hidden, config.layers, residual=config.residual
            )
            _PLANS[field] = plan
        parameters = FieldParameters(
            tuple(field.weights),
            field.observed_weight,
            field.bias,
            field.time_bias,
            field.gate_rate,
            field.gate_offset,
        )
        directions, batch, width = start.shape
        end, log_det = solve_fused(
            plan,
            parameters,
            start.reshape(-1, width),
            observed.reshape(directions * batch, -1),
            sign.repeat_interleave(batch),
            self.num_steps,
            num_threads=self.num_threads,
        )
        return Solution(
            end.view(start.shape),
            log_det.view(directions, batch, -1),
            4 * self.num_steps,
        )

    def with_steps(self, factor: int) -> "FusedEngine":
        """The engine with ``factor`` times the steps."""
        return FusedEngine(self.num_steps * factor, self.num_threads)


@dataclass(frozen=True, slots=True)
class _Kernels:
    """The compiled functions of `fused_kernel.py`."""

    fill_tables: Any
    adjoint_tables: Any
    solve_pack: Any
    adjoint_pack: Any


@cache
def _kernels() -> _Kernels:
    """The kernel, with Numba's cache in the folder of these sources' hash."""
    functions = {
        name: getattr(fused_kernel, name).py_func
        for name in ("fill_tables", "adjoint_tables", "solve_pack", "adjoint_pack")
    }
    folder = _cache_folder()
    settings: Any = config  # its fields are made at run time
    options: dict[str, Any] = dict(fused_tiles.OPTIONS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        options["cache"] = os.access(folder, os.W_OK)
    except OSError:
        options["cache"] = False
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)  # read when a function is declared
    try:
        return _Kernels(
            **{name: numba.njit(**options)(f) for name, f in functions.items()}
        )
    finally:
        settings.CACHE_DIR = before


def _cache_folder() -> Path:
    """Folder for this version of the kernel; other versions have other folders."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for module in (fused_kernel, fused_tiles):
        digest.update(Path(str(module.__file__)).read_bytes())
    settings: Any = config  # its fields are made at run time
    if settings.CACHE_DIR:
        base = Path(settings.CACHE_DIR)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "daphne-flows" / digest.hexdigest()[:16]


def is_compiled() -> bool:
    """Whether the kernel can be used on this machine without compiling it."""
    return (_cache_folder() / _marker()).exists()


def _marker() -> str:
    """Name of the file that says the kernel was compiled for this processor."""
    digest = hashlib.sha256(fused_tiles.target().encode())
    return f"compiled-{digest.hexdigest()[:16]}"


def warm_up(on_compile: Callable[[], None] | None = None) -> None:
    """Compile the kernel, or read it from the cache.

    Args:
        on_compile: called first if the kernel has to be compiled (some 20 s, once).
    """
    was_compiled = is_compiled()
    if not was_compiled and on_compile is not None:
        on_compile()
    plan = make_plan(
        Structure((StateBlock("a", (0,), 0, (), (0,)),), 1), [1], 2, residual=False
    )
    one = torch.ones(1)
    all_features = torch.ones(plan.features)
    parameters = FieldParameters((one, one), one, *[all_features] * 4)
    start = torch.zeros(1, 1, requires_grad=True)
    end, log_det = solve_fused(plan, parameters, start, torch.zeros(1, 1), one, 1)
    (end.sum() + log_det.sum()).backward()  # type: ignore[no-untyped-call]
    if not was_compiled and _cache_folder().is_dir():
        (_cache_folder() / _marker()).touch()

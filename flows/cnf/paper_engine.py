r"""This file solves any vector field as the paper does, and exactly for certifying.

Both engines need nothing of a field but its values, so they work for networks without
block structure (`baselines.py`), and for `VectorField` as an oracle of fast engines.

`AdjointEngine`, the paper's configuration: Dormand-Prince 5(4) with error control, the
adjoint method for gradients, Hutchinson's estimate of the divergence,

    div f ≈ eᵀ (∂f/∂z) e,   E[e] = 0, Cov[e] = I, one e of signs per row and solve.

It is unbiased, but its noise is nats: it serves training, never a quoted figure. The
same solver and gradients with the exact divergence are one switch away (`is_exact`).

`ExactTraceEngine`: the same solver in float64 with the trace by as many backward passes
as the state has columns.

For a field without block structure the terms per node add up to the log-determinant,
but are no conditional log densities.

References:
    Grathwohl et al., "FFJORD", ICLR 2019.
    Chen, Rubanova, Bettencourt, Duvenaud, "Neural ODEs", NeurIPS 2018.
"""

import zlib
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .baselines import GatedField
from .divergence import divergence_per_node, slopes_of
from .engine import Engine, Rows
from .solve import Solution, worst_row_norm
from .vector_field import VectorField, evaluate_field

__all__ = ["AdjointEngine", "ExactTraceEngine", "SolverCounts"]

_MAX_STEPS = 2_000


@dataclass(slots=True)
class SolverCounts:
    """Evaluations of the field in the last solves.

    Args:
        to_latent: base to latents.
        to_base: latents to base.
        backward: by the adjoints of these two.
    """

    to_latent: int = 0
    to_base: int = 0
    backward: int = 0


@dataclass(frozen=True, slots=True)
class AdjointEngine(Engine):
    """The paper's solver.

    Args:
        generator: source of the noise of the divergence. Without one the noise is a
            function of the rows: equal rows meet equal noise, and a continued run
            needs no state of the noise.
        tolerance: relative and absolute.
        is_exact: whether the divergence is exact instead: by its blocks, or for a
            network without blocks by one backward pass per column.
        counts: of the last solve in each direction.
    """

    generator: torch.Generator | None = None
    tolerance: float = 1e-5
    is_exact: bool = False
    counts: SolverCounts = field(default_factory=SolverCounts)

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and log-determinants, with gradients; each direction on its own.

        All is nan if the solver gives up.
        """
        self.counts.backward = 0
        parts = [
            self._direction(field, start, given, float(way))
            for start, given, way in zip(
                rows.start, rows.observed, rows.sign, strict=True
            )
        ]
        return Solution(
            torch.stack([state for state, _, _ in parts]),
            torch.stack([log_det for _, log_det, _ in parts]),
            max(count for _, _, count in parts),
        )

    def with_steps(self, factor: int) -> "AdjointEngine":
        """The engine with a tolerance smaller by ``factor`` to the fifth power."""
        return replace(self, tolerance=self.tolerance / factor**5)

    def _direction(
        self, field: VectorField, start: Tensor, observed: Tensor, sign: float
    ) -> tuple[Tensor, Tensor, int]:
        noise = None if self.is_exact else self._noise(start)
        dynamics = _Dynamics(field, observed, sign, noise, self.counts)
        states = (start, start.new_zeros(start.shape[0], _num_nodes(field)))
        ends = start.new_tensor([0.0, 1.0])
        try:
            state, log_det = self._path(field, dynamics, states, ends)
        except AssertionError:  # torchdiffeq: step size underflow, or too many steps
            state, log_det = (torch.full_like(part, torch.nan) for part in states)
        dynamics.is_forward = False
        if sign > 0:
            self.counts.to_latent = dynamics.count
        else:
            self.counts.to_base = dynamics.count
        return state, log_det, dynamics.count

    def _path(
        self,
        field: VectorField,
        dynamics: "_Dynamics",
        states: tuple[Tensor, Tensor],
        ends: Tensor,
    ) -> tuple[Tensor, Tensor]:
        path = import_module("torchdiffeq").odeint_adjoint(
            dynamics,
            states,
            ends,
            rtol=self.tolerance,
            atol=self.tolerance,
            method="dopri5",
            adjoint_params=tuple(p for p in field.parameters() if p.requires_grad),
            options={"max_num_steps": _MAX_STEPS},
        )
        return path[0][-1], path[1][-1]

    def _noise(self, start: Tensor) -> Tensor:
        generator = self.generator
        if generator is None:
            content = start.detach().cpu().numpy().tobytes()
            generator = torch.Generator().manual_seed(zlib.crc32(content))
        draws = torch.randint(0, 2, start.shape, generator=generator)
        return 2.0 * draws.to(start) - 1.0


class _Dynamics(nn.Module):
    """Velocity and divergence per node; counts its evaluations."""

    def __init__(
        self,
        field: VectorField,
        observed: Tensor,
        sign: float,
        noise: Tensor | None,
        counts: SolverCounts,
    ) -> None:
        super().__init__()
        self.field = field
        self.observed = observed
        self.sign = sign
        self.noise = noise
        self.counts = counts
        self.count = 0
        self.is_forward = True

    def forward(
        self, progress: Tensor, states: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Right-hand side at a progress of the solve."""
        if self.is_forward:
            self.count += 1
        else:
            self.counts.backward += 1
        state = states[0]
        if self.noise is None and not isinstance(self.field, GatedField):
            return _with_blocks(self.field, progress, state, self.observed, self.sign)
        is_recorded = torch.is_grad_enabled() and state.requires_grad
        with torch.enable_grad():
            if not is_recorded:
                state = state.detach().requires_grad_()
            change = _velocity(self.field, progress, state, self.observed, self.sign)
            if self.noise is None:
                columns = _diagonal(change, state, create_graph=True)
            else:
                (pulled,) = torch.autograd.grad(
                    change, state, self.noise, create_graph=True
                )
                columns = pulled * self.noise
            divergence = _per_node(self.field, columns)
        return change, divergence


@dataclass(frozen=True, slots=True)
class ExactTraceEngine(Engine):
    """Adaptive float64 solve with the exact trace by autograd; no gradients.

    Args:
        tolerance: relative and absolute.
        rows: rows solved together at most.
    """

    tolerance: float = 1e-6
    rows: int = 256
    is_exact: ClassVar[bool] = True

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and log-determinants; rows that cannot be finished are nan.

        Raises:
            ArgumentError: if the rows are not float64.
        """
        if rows.start.dtype != torch.float64:
            raise ArgumentError.at(
                "exact trace engine",
                "precision",
                "a float64 flow and rows (use .double())",
                str(rows.start.dtype),
            )
        count = 0
        ends = []
        nodes = _num_nodes(field)
        for start, given, way in zip(rows.start, rows.observed, rows.sign, strict=True):
            end = start.new_full((start.shape[0], start.shape[1] + nodes), 0.0)
            for chosen in torch.split(torch.arange(start.shape[0]), self.rows):
                part, evaluations = self._rows(
                    field, start[chosen], given[chosen], float(way)
                )
                end[chosen] = part
                count = max(count, evaluations)
            ends.append(end)
        both = torch.stack(ends)
        state, log_det = torch.split(both, [rows.start.shape[-1], nodes], -1)
        return Solution(state, log_det, count)

    def with_steps(self, factor: int) -> "ExactTraceEngine":
        """The same engine with a tolerance smaller by ``factor`` to the fifth power."""
        return ExactTraceEngine(self.tolerance / factor**5, self.rows)

    def _rows(
        self, field: VectorField, start: Tensor, observed: Tensor, sign: float
    ) -> tuple[Tensor, int]:
        """Ends of rows; rows that fail are found by halving."""
        width = start.shape[1]
        count = 0

        def change(progress: Tensor, joined: Tensor) -> Tensor:
            nonlocal count
            count += 1
            with torch.enable_grad():
                state = joined[:, :width].detach().requires_grad_()
                velocity = _velocity(field, progress, state, observed, sign)
                trace = _diagonal(velocity, state)
            return torch.cat([velocity.detach(), _per_node(field, trace)], -1)

        joined = torch.cat([start, start.new_zeros(len(start), _num_nodes(field))], -1)
        try:
            with torch.no_grad():
                path = import_module("torchdiffeq").odeint(
                    change,
                    joined,
                    start.new_tensor([0.0, 1.0]),
                    rtol=self.tolerance,
                    atol=self.tolerance,
                    method="dopri5",
                    options={"norm": worst_row_norm, "max_num_steps": _MAX_STEPS},
                )
            end: Tensor = path[-1]
            if bool(torch.isfinite(end).all()):
                return end, count
        except AssertionError:  # torchdiffeq: step size underflow, or too many steps
            pass
        if len(start) == 1:
            return torch.full_like(joined, torch.nan), count
        parts = [
            self._rows(field, rows, given, sign)
            for rows, given in zip(
                start.tensor_split(2), observed.tensor_split(2), strict=True
            )
        ]
        return torch.cat([end for end, _ in parts]), max(n for _, n in parts)


def _velocity(
    field: VectorField, progress: Tensor, state: Tensor, observed: Tensor, sign: float
) -> Tensor:
    """The velocity along the solve: f, or -f at 1 - s for latents to base."""
    time = progress if sign > 0 else 1.0 - progress
    if isinstance(field, GatedField):
        return sign * field.velocity(time, state, observed)
    dense = field.dense()
    gates = dense.gates(time[None], time.new_tensor([sign]))
    return evaluate_field(dense, state, dense.observed_term(observed), gates)[0]


def _with_blocks(
    field: VectorField, progress: Tensor, state: Tensor, observed: Tensor, sign: float
) -> tuple[Tensor, Tensor]:
    """The velocity along the solve, with its divergence per node by blocks."""
    time = progress if sign > 0 else 1.0 - progress
    dense = field.dense()
    gates = dense.gates(time[None], time.new_tensor([sign]))
    term = dense.observed_term(observed)
    change, values = evaluate_field(dense, state, term, gates)
    return change, divergence_per_node(dense, slopes_of(values, gates), gates)


def _diagonal(velocity: Tensor, state: Tensor, *, create_graph: bool = False) -> Tensor:
    """Diagonal of each row's Jacobian, by one backward pass per column."""
    width = state.shape[1]
    basis = torch.eye(width, dtype=state.dtype, device=state.device)
    outputs = basis[:, None, :].expand(width, *state.shape)
    (rows,) = torch.autograd.grad(
        velocity, state, outputs, is_grads_batched=True, create_graph=create_graph
    )
    return rows.diagonal(dim1=0, dim2=2)


def _num_nodes(field: VectorField) -> int:
    return len(field.structure.blocks)


def _per_node(field: VectorField, columns: Tensor) -> Tensor:
    """Sums of the columns of each node."""
    node = torch.tensor(field.structure.state_node, device=columns.device)
    nodes = columns.new_zeros(columns.shape[0], _num_nodes(field))
    return nodes.index_add(-1, node, columns)

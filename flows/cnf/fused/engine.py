r"""This file is the fused engine: a flow's solve and its adjoint in one kernel.

Rows are sorted by direction into packs of up to 128 rows, which are solved one after
the other (or by several threads); a row's result does not depend on its batch mates.

References:
    Weilbach et al., AISTATS 2020, section 3.
"""

from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from ..engine import Engine, Rows
from ..solve import Solution
from ..vector_field import VectorField
from .differentiable import FusedSolve
from .plan import Plan, make_plan
from .preparation import FieldParameters

__all__ = ["FusedEngine", "plan_of", "solve_fused"]


@dataclass(frozen=True, slots=True)
class FusedEngine(Engine):
    """Graded Runge-Kutta steps of order 4 in the fused kernel: float32, CPU.

    Args:
        num_steps: number of steps.
        num_threads: threads at most; results do not depend on it.
    """

    num_steps: int
    num_threads: int = 1
    is_exact: ClassVar[bool] = True

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and per-node log-determinants, with gradients.

        The field is solved in single precision, whatever its own. Log-determinants that
        are not wanted are 0, which is faster.
        """
        directions, batch, width = rows.start.shape
        end, log_det = solve_fused(
            plan_of(field),
            FieldParameters.of(field),
            rows.start.reshape(-1, width),
            rows.observed.reshape(directions * batch, -1),
            rows.sign.repeat_interleave(batch),
            self.num_steps,
            num_threads=self.num_threads,
            with_log_det=rows.with_log_det,
        )
        return Solution(
            end.view(rows.start.shape),
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
    end, log_det = FusedSolve.apply(  # type: ignore[no-untyped-call]
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

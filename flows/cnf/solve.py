r"""This file solves the flow's differential equation, in equal or in adaptive steps.

The state z runs from the base, t = 0, to the latents, t = 1, under dz/dt = f(z, t; x).
Per node i the log-determinant obeys d log|det_i|/dt = tr d f_i / d z_i. Rows may run
either way: with s from 0 to 1, a row of sign +1 has t = s and a row of sign -1 has
t = 1 - s and velocity -f, so one solve carries both directions, and the log-determinant
it returns is always that of the map from the row's start to its end.

Fixed step: classical Runge-Kutta of order 4 in N steps, which get shorter towards the
latents, where a trained field changes fastest: they end at t_n = 1 - (1 - n / N)^1.3.
The log-determinant never enters the field, so it is a quadrature over the stages:
Simpson's rule with one trace at each end and midpoint of the steps. There two stages
meet, but for the first and the last, at states that differ by O(h^2); the trace, which
is linear in the slopes of each layer, is taken at the mean of their slopes, with the
stages' Runge-Kutta weights. This differs from the sum of both traces by O(h^4), so the
order stays, with half the traces.

Adaptive: Dormand-Prince 5(4) of torchdiffeq. The error norm of a state is the maximum
over rows of the row's root mean square, so that no row hides in the batch mean. Rows
that the solver cannot finish become nan; they are found by halving the batch, as long
as the work that is allowed lasts.

References:
    Dormand and Prince, J. Comp. Appl. Math. 6 (1980).
    Chen, Rubanova, Bettencourt, Duvenaud, "Neural ODEs", NeurIPS 2018 (torchdiffeq).
"""

import math
from dataclasses import dataclass
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor

from .divergence import Slopes, divergence_per_node, slopes_of
from .vector_field import DenseField, Gates, evaluate_field

__all__ = [
    "Solution",
    "solve_adaptive",
    "solve_fixed_step",
    "stage_times",
    "times_of_signs",
    "worst_row_norm",
]

_MAX_ADAPTIVE_STEPS = 20_000
_STAGES = 6
"""Evaluations of a step of Dormand-Prince."""
_SHARE = 0.25
"""Of the work that is left, for one attempt: no stiff row uses up that of all."""
_GRADE = 1.3


@dataclass(frozen=True, slots=True)
class Solution:
    """The end of a solve.

    Args:
        state: where each row ends.
        log_det: per node, log|det d end / d start|, in nats.
        num_evaluations: evaluations of the vector field per row.
    """

    state: Float[Tensor, "direction batch state"]
    log_det: Float[Tensor, "direction batch node"]
    num_evaluations: int


def solve_fixed_step(
    field: DenseField,
    start: Float[Tensor, "direction batch state"],
    observed_term: Float[Tensor, "direction batch hidden"],
    sign: Float[Tensor, " direction"],
    num_steps: int,
    *,
    with_log_det: bool = True,
) -> Solution:
    """The end after ``num_steps`` graded Runge-Kutta steps, differentiable.

    Args:
        field: the network.
        start: where each row starts.
        observed_term: `DenseField.observed_term` of the rows.
        sign: +1 for rows from base to latents, -1 for rows from latents to base.
        num_steps: number of steps.
        with_log_det: False to leave the log-determinants at 0.
    """
    times = times_of_signs(sign, num_steps)
    gates = field.gates(times[..., None], sign[:, None]).split(1)
    widths = (times[2::2] - times[:-2:2]).abs()[..., None, None]
    state = start
    log_det = start.new_zeros(*start.shape[:-1], field.num_nodes)
    before: Slopes | None = None
    for number, width in enumerate(widths):
        first, middle, last = gates[2 * number : 2 * number + 3]
        k1, values = evaluate_field(field, state, observed_term, first)
        at_start = slopes_of(values, first)
        k2, values = evaluate_field(
            field, state + width / 2 * k1, observed_term, middle
        )
        at_middle = slopes_of(values, middle)
        k3, values = evaluate_field(
            field, state + width / 2 * k2, observed_term, middle
        )
        at_middle = _mean(at_middle, slopes_of(values, middle), 0.5)
        k4, values = evaluate_field(field, state + width * k3, observed_term, last)
        state = (state + width / 6 * (k1 + 2 * (k2 + k3) + k4))[0]
        if not with_log_det:
            continue
        start_weight = width
        if before is not None:
            start_weight = width + widths[number - 1]
            at_start = _mean(before, at_start, width / start_weight)
        divergence = divergence_per_node(
            field,
            tuple(map(torch.cat, zip(at_start, at_middle, strict=True))),
            Gates.join([first, middle]),
        )
        log_det = (
            log_det + start_weight / 6 * divergence[0] + width / 1.5 * divergence[1]
        )
        before = slopes_of(values, last)
    if before is not None:
        divergence = divergence_per_node(field, before, gates[-1])
        log_det = log_det + widths[-1] / 6 * divergence[0]
    return Solution(state, log_det, 4 * num_steps)


def _mean(left: Slopes, right: Slopes, share: float | Tensor) -> Slopes:
    """Slopes of two stages averaged, the right ones by ``share``."""
    return tuple(torch.lerp(a, b, share) for a, b in zip(left, right, strict=True))


def stage_times(num_steps: int) -> Float[Tensor, " time"]:
    """Ends of the steps and their midpoints, from 0 to 1, [2 num_steps + 1]."""
    ends = 1.0 - torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64) ** _GRADE
    times = ends.new_empty(2 * num_steps + 1)
    times[::2] = ends
    times[1::2] = (ends[1:] + ends[:-1]) / 2
    return times


def times_of_signs(
    sign: Float[Tensor, " direction"], num_steps: int
) -> Float[Tensor, "time direction"]:
    """`stage_times` along the path of rows of each sign."""
    times = stage_times(num_steps).to(sign)[:, None]
    return torch.where(sign > 0, times, times.flip(0))


def solve_adaptive(
    field: DenseField,
    start: Float[Tensor, "direction batch state"],
    observed_term: Float[Tensor, "direction batch hidden"],
    sign: Float[Tensor, " direction"],
    *,
    tolerance: float,
    most_evaluations: float = math.inf,
) -> Solution:
    """The end found with adaptive steps; no gradients.

    Args:
        field: the network.
        start: where each row starts.
        observed_term: `DenseField.observed_term` of the rows.
        sign: +1 for rows from base to latents, -1 for rows from latents to base.
        tolerance: relative and absolute, for the state and the log-determinants.
        most_evaluations: of the field, counted for each row.
    """
    directions, batch, width = start.shape
    rows = start.reshape(-1, width)
    term = observed_term.reshape(rows.shape[0], observed_term.shape[-1])
    signs = sign[:, None].expand(directions, batch).reshape(-1, 1)
    with torch.no_grad():
        ends, evaluations = _solve_rows(
            field, rows, term, signs, tolerance, most_evaluations
        )
    state, log_det = torch.split(ends, [width, field.num_nodes], -1)
    return Solution(
        state.reshape(start.shape),
        log_det.reshape(directions, batch, field.num_nodes),
        evaluations,
    )


def _solve_rows(
    field: DenseField,
    rows: Tensor,
    term: Tensor,
    signs: Tensor,
    tolerance: float,
    left: float,
) -> tuple[Tensor, int]:
    """Ends of all rows, with nan where the solver fails, by halving the batch."""
    width = rows.shape[1]
    ends = rows.new_full((rows.shape[0], width + field.num_nodes), torch.nan)
    finite = torch.isfinite(rows).all(-1) & torch.isfinite(term).all(-1)
    waiting = [finite.nonzero().squeeze(-1)]
    evaluations = 0
    while waiting:
        chosen = waiting.pop()
        if chosen.numel() == 0:
            continue
        most = _SHARE * left / (_STAGES * chosen.numel())
        if most < 1.0:
            break
        num_steps = int(min(_MAX_ADAPTIVE_STEPS, most))
        end, count = _integrate(
            field, rows[chosen], term[chosen], signs[chosen], tolerance, num_steps
        )
        left -= count * chosen.numel()
        evaluations = max(evaluations, count)
        if end is not None:
            ends[chosen] = end
        elif chosen.numel() > 1:
            waiting.extend(chosen.tensor_split(2))
    return ends, evaluations


def _integrate(
    field: DenseField,
    rows: Tensor,
    term: Tensor,
    signs: Tensor,
    tolerance: float,
    num_steps: int,
) -> tuple[Tensor | None, int]:
    """Ends of all rows, or None if the solver cannot finish."""
    width = rows.shape[1]
    count = 0

    def velocity(time: Tensor, joined: Tensor) -> Tensor:
        nonlocal count
        count += 1
        gates = field.gates(_time(time, signs), signs)
        gates = Gates(
            tuple(factor[:, 0] for factor in gates.factors),
            tuple(drift[:, 0] for drift in gates.drifts),
        )
        change, values = evaluate_field(field, joined[:, :width], term, gates)
        divergence = divergence_per_node(field, slopes_of(values, gates), gates)
        return torch.cat([change, divergence], -1)

    start = torch.cat([rows, rows.new_zeros(rows.shape[0], field.num_nodes)], -1)
    ends = rows.new_tensor([0.0, 1.0])
    try:
        path = import_module("torchdiffeq").odeint(
            velocity,
            start,
            ends,
            rtol=tolerance,
            atol=tolerance,
            method="dopri5",
            options={"norm": worst_row_norm, "max_num_steps": num_steps},
        )
    except AssertionError:  # torchdiffeq: step size underflow, or too many steps
        return None, count
    end: Tensor = path[-1]
    return (end if bool(torch.isfinite(end).all()) else None), count


def worst_row_norm(state: Tensor) -> Tensor:
    """Return the largest root mean square of a row: each is as exact as alone."""
    return state.pow(2).mean(-1).sqrt().max()


def _time(progress: Tensor, sign: Tensor) -> Tensor:
    """The time t of rows of a sign, at progress s."""
    return torch.where(sign > 0, progress, 1.0 - progress)

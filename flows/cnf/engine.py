"""This file says what an engine is, and holds the two that need torch alone.

An engine takes a vector field and rows with their directions, and returns their ends
with one log-determinant per node. All engines agree on the field (`vector_field.py`)
and on the direction convention (`solve.py`); they differ in steps, speed and gradients.
`engines.py` is their registry.

- `TorchEngine`: fixed Runge-Kutta steps, differentiable, any device.
- `AdaptiveEngine`: error-controlled steps in float64, no gradients; for weights and for
  every figure that is quoted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from .solve import Solution, solve_adaptive, solve_fixed_step
from .vector_field import VectorField

__all__ = ["AdaptiveEngine", "Engine", "Rows", "TorchEngine", "check_double"]

_MOST_OUTPUTS = 2**22
"""Outputs of all layers and rows of an adaptive solve, which bound its memory."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to solve, and what is wanted of them.

    Args:
        start: residual coordinates where each row starts.
        observed: normalised observed values of each row.
        sign: +1 from base to latents, -1 from latents to base.
        with_log_det: False where only the ends are wanted; log-determinants may then be
            anything.
    """

    start: Float[Tensor, "direction batch state"]
    observed: Float[Tensor, "direction batch observed"]
    sign: Float[Tensor, " direction"]
    with_log_det: bool = True

    def by_direction(self) -> "Iterator[Rows]":
        """The rows of each direction alone."""
        parts = (self.start, self.observed, self.sign)
        ways = zip(*(torch.split(part, 1) for part in parts), strict=True)
        for start, observed, sign in ways:
            yield Rows(start, observed, sign, self.with_log_det)


class Engine(Protocol):
    """Solves the flow for rows that run either way.

    An engine derives from this class and says how it solves `Rows`; or it has the
    three public members, whatever it derives from.

    Law: with sign +1 and back with -1 every row is where it started, and the
    log-determinants of the two are opposite. A row does not depend on its batch mates,
    beyond the engine's tolerance; a node of it on no column outside the node's reach.

    Example:
        >>> from flows.cnf.vector_field import FieldConfig, VectorField
        >>> from flows.flow.structure import StateBlock, Structure
        >>> structure = Structure((StateBlock("z", (0,), 0, (), (0,)),), 1)
        >>> field = VectorField(structure, FieldConfig())
        >>> rows, observed = torch.zeros(1, 5, 1), torch.ones(1, 5, 1)
        >>> end = TorchEngine(8).solve(field, rows, observed, torch.ones(1))
        >>> end.state.shape, end.log_det.shape, end.num_evaluations
        (torch.Size([1, 5, 1]), torch.Size([1, 5, 1]), 32)
    """

    __slots__ = ()

    @property
    def is_exact(self) -> bool:
        """Whether log-determinants are free of noise."""

    def solve(
        self,
        field: VectorField,
        start: Float[Tensor, "direction batch state"],
        observed: Float[Tensor, "direction batch observed"],
        sign: Float[Tensor, " direction"],
        *,
        with_log_det: bool = True,
    ) -> Solution:
        """Ends and per-node log-determinants.

        Args:
            field: the vector field.
            start: residual coordinates where each row starts.
            observed: normalised observed values of each row.
            sign: +1 from base to latents, -1 from latents to base.
            with_log_det: False where only the ends are wanted; log-determinants may
                then be anything.
        """
        return self.solve_rows(field, Rows(start, observed, sign, with_log_det))

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """The same for rows in one value; what `solve` of a derived class calls."""
        raise NotImplementedError

    def with_steps(self, factor: int) -> "Engine":
        """The same engine with ``factor`` times the steps, to see its bias."""


@dataclass(frozen=True, slots=True)
class TorchEngine(Engine):
    """Graded Runge-Kutta steps of order 4, differentiable."""

    num_steps: int
    is_exact: ClassVar[bool] = True

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and per-node log-determinants, with gradients."""
        dense = field.dense()
        return solve_fixed_step(
            dense,
            rows.start,
            dense.observed_term(rows.observed),
            rows.sign,
            self.num_steps,
            with_log_det=rows.with_log_det,
        )

    def with_steps(self, factor: int) -> "TorchEngine":
        """The engine with ``factor`` times the steps."""
        return TorchEngine(self.num_steps * factor)


@dataclass(frozen=True, slots=True)
class AdaptiveEngine(Engine):
    """Dormand-Prince steps with error control, in float64, without gradients.

    Args:
        tolerance: relative and absolute.
        rows: rows solved together at most, fewer of a large network; rows share their
            steps.
        most_work: multiplications of one solve at most, about; rows that are not done
            by then are nan.
    """

    tolerance: float = 1e-6
    rows: int = 4096
    most_work: float = math.inf
    is_exact: ClassVar[bool] = True

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """Ends and per-node log-determinants, without gradients.

        Raises:
            ArgumentError: if the field or the rows are not float64.
        """
        check_double(field, rows.start)
        count = max(1, min(self.rows, _MOST_OUTPUTS // sum(field.widths)))
        with torch.no_grad():
            dense = field.dense()
            term = dense.observed_term(rows.observed)
            share = count / max(count, rows.start.shape[1])
            allowed = share * self.most_work / sum(p.size for p in field.packings)
            parts = [
                solve_adaptive(
                    dense,
                    start,
                    terms,
                    rows.sign,
                    tolerance=self.tolerance,
                    most_evaluations=allowed,
                )
                for start, terms in zip(
                    torch.split(rows.start, count, 1),
                    torch.split(term, count, 1),
                    strict=True,
                )
            ]
        return Solution(
            torch.cat([part.state for part in parts], 1),
            torch.cat([part.log_det for part in parts], 1),
            max(part.num_evaluations for part in parts),
        )

    def with_steps(self, factor: int) -> "AdaptiveEngine":
        """The engine with a tolerance smaller by ``factor`` to the fifth power."""
        return replace(self, tolerance=self.tolerance / factor**5)


def check_double(field: VectorField, start: Tensor) -> None:
    """Refuse a field or rows in another precision.

    Raises:
        ArgumentError: if one of them is not float64.
    """
    if start.dtype != torch.float64 or field.bias.dtype != torch.float64:
        raise ArgumentError.at(
            "adaptive engine",
            "precision",
            "a float64 flow and rows (use .double())",
            f"{field.bias.dtype} and {start.dtype}",
        )

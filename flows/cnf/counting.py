"""This file counts the evaluations of the field that a solve takes."""

from dataclasses import dataclass
from typing import ClassVar

from .engine import Engine, Rows
from .solve import Solution
from .vector_field import VectorField

__all__ = ["CountingEngine"]


@dataclass(slots=True)
class CountingEngine(Engine):
    """An engine that remembers the most evaluations of a solve in each direction.

    Args:
        inner: what solves.
        multiply_adds: of one evaluation for one row, of entries that exist only.
        to_latent: evaluations from base to latents.
        to_base: evaluations from latents to the base.
    """

    inner: Engine
    multiply_adds: int
    to_latent: int = 0
    to_base: int = 0
    is_exact: ClassVar[bool] = True

    def solve_rows(self, field: VectorField, rows: Rows) -> Solution:
        """The inner engine's solution."""
        solution = self.inner.solve(
            field,
            rows.start,
            rows.observed,
            rows.sign,
            with_log_det=rows.with_log_det,
        )
        if float(rows.sign.min()) > 0:
            self.to_latent = max(self.to_latent, solution.num_evaluations)
        if float(rows.sign.max()) < 0:
            self.to_base = max(self.to_base, solution.num_evaluations)
        return solution

    def with_steps(self, factor: int) -> Engine:
        """The inner engine with more steps."""
        return self.inner.with_steps(factor)

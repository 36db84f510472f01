"""This file counts the evaluations of the field that a solve takes."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from .engine import Engine
from .solve import Solution
from .vector_field import VectorField

__all__ = ["CountingEngine"]


@dataclass(slots=True)
class CountingEngine:
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

    def solve(
        self,
        field: VectorField,
        start: Float[Tensor, "direction batch state"],
        observed: Float[Tensor, "direction batch observed"],
        sign: Float[Tensor, " direction"],
        *,
        with_log_det: bool = True,
    ) -> Solution:
        """The inner engine's solution."""
        solution = self.inner.solve(
            field, start, observed, sign, with_log_det=with_log_det
        )
        if float(sign.min()) > 0:
            self.to_latent = max(self.to_latent, solution.num_evaluations)
        if float(sign.max()) < 0:
            self.to_base = max(self.to_base, solution.num_evaluations)
        return solution

    def with_steps(self, factor: int) -> Engine:
        """The inner engine with more steps."""
        return self.inner.with_steps(factor)

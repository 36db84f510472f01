r"""This file makes factors that are normal and linear in some columns into potentials.

With v the columns that are integrated out, a factor is

    -1/2 |c + B v|² + const,   c = (value - rest) / scale,   B = coefficients / scale,

a precision BᵀB and a linear term -Bᵀc. Factors of the same columns are one matrix B,
and matrices of one shape are one batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..model.dag import Dag
from ..model.schedule import Schedule
from ..structured_gaussian.cliques import plan_of
from ..structured_gaussian.elimination import Information, square_of, times
from .forms import LinearForm
from .order import elimination_rounds
from .places import Places

__all__ = ["Factor", "Potentials", "numbered_potentials"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A normal factor.

    Attributes:
        residual: Value less mean, in the columns by number.
        scale: Slot of its scale.
    """

    residual: LinearForm
    scale: int

    @property
    def columns(self) -> tuple[int, ...]:
        """Numbers of the columns that it joins."""
        return tuple(sorted(self.residual.coefficients))


@dataclass(frozen=True, eq=False)
class _Group:
    """Factors in matrices of one shape.

    Attributes:
        coefficients: Places among the numbers, [matrix, factor, column].
        scales: Likewise, [matrix, factor].
        rests: Likewise.
        entries: Of all precisions, where a matrix's go.
        linear: Of all linear terms, likewise.
    """

    coefficients: Tensor
    scales: Tensor
    rests: Tensor
    entries: Tensor
    linear: Tensor


@dataclass(frozen=True, eq=False)
class Potentials:
    """What factors add to the precisions and linear terms of a plan's cliques.

    Attributes:
        dag: Has the slots.
        sources: Slots of what is given: the other latents, and the observed values.
        factors: Each of at least one column.
        places: Where the numbers of columns are.
    """

    dag: Dag
    sources: tuple[tuple[int, ...], ...]
    factors: tuple[Factor, ...]
    places: Places

    def information(
        self,
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, "rows observed"],
        *,
        has_slopes: bool = False,
    ) -> Information:
        """Return the product of all factors, row by row.

        Args:
            latents: The other latents.
            observed: Data, one row for all or one for each.
            has_slopes: Whether gradients flow through the linear terms too. The
                density does not need them: at the columns' mean no other matters.
        """
        has_slopes = has_slopes and torch.is_grad_enabled()
        sources = [latents.t().contiguous(), observed.t().contiguous()]
        num = len(latents)
        steep, flat = self._schedules
        (slopes,) = steep.run(sources, num_rows=num, like=latents)
        with torch.set_grad_enabled(has_slopes):
            (rests,) = flat.run(sources, num_rows=num, like=latents)
        slopes = slopes.expand(-1, num).t().contiguous()
        rests = rests.expand(-1, num).t().contiguous()
        precision = latents.new_zeros(num, self.places.num_entries)
        linear = latents.new_zeros(num, self.places.num_places)
        for group in self._groups:
            scales = slopes[:, group.scales]
            matrix = slopes[:, group.coefficients] / scales.unsqueeze(-1)
            square = square_of(matrix).flatten(1)
            precision = precision.index_add(1, group.entries, square)
            with torch.set_grad_enabled(has_slopes):
                away = rests[:, group.rests] / scales
                pull = times(matrix.mT, away).flatten(1)
                linear = linear.index_add(1, group.linear, pull, alpha=-1.0)
        return Information(precision, linear)

    def diagonal(self, information: Information) -> Float[Tensor, "row column"]:
        """Return each column's precision given all others."""
        precision = information.precision
        found = precision.new_zeros(len(precision), len(self.places.plan.place))
        columns, entries = self.places.diagonal
        return found.index_add(1, columns, precision[:, entries])

    # -------------------------------------------------------------- places

    @cached_property
    def _slopes(self) -> dict[int, int]:
        """Places of the coefficients and scales."""
        slots: list[int] = []
        for factor in self.factors:
            slots += [*factor.residual.coefficients.values(), factor.scale]
        return _places(slots)

    @cached_property
    def _rests(self) -> dict[int, int]:
        return _places([factor.residual.rest for factor in self.factors])

    @cached_property
    def _schedules(self) -> tuple[Schedule, Schedule]:
        wanted = tuple(self._slopes), tuple(self._rests)
        return (
            Schedule.of(self.dag, self.sources, wanted[:1]),
            Schedule.of(self.dag, self.sources, wanted[1:]),
        )

    @cached_property
    def _groups(self) -> list[_Group]:
        matrices: dict[tuple[int, ...], list[Factor]] = {}
        for factor in self.factors:
            matrices.setdefault(factor.columns, []).append(factor)
        shapes: dict[tuple[int, int], list[list[Factor]]] = {}
        for columns, factors in matrices.items():
            shapes.setdefault((len(factors), len(columns)), []).append(factors)
        return [self._group(each) for each in shapes.values()]

    def _group(self, matrices: Sequence[Sequence[Factor]]) -> _Group:
        coefficients, scales, rests, entries, places = [], [], [], [], []
        for factors in matrices:
            columns = factors[0].columns
            coefficients.append(
                [
                    [self._slopes[f.residual.coefficients[c]] for c in columns]
                    for f in factors
                ]
            )
            scales.append([self._slopes[f.scale] for f in factors])
            rests.append([self._rests[f.residual.rest] for f in factors])
            own = self.places.of(columns)
            places += own[1]
            entries += own[0]
        found: list[Any] = [coefficients, scales, rests, entries, places]
        return _Group(*map(torch.tensor, found))


def numbered_potentials(
    dag: Dag,
    sources: tuple[tuple[int, ...], ...],
    size: int,
    factors: Sequence[Factor],
    scopes: Iterable[Iterable[int]] = (),
) -> tuple[Potentials, tuple[int, ...]] | None:
    """Return potentials of latents in the order of their elimination, with its numbers.

    None where a clique is too wide.

    Args:
        dag: Has the slots.
        sources: Slots of what is given.
        size: Number of latents.
        factors: With the latents' own numbers.
        scopes: Latents that something else joins.
    """
    scopes = [*(factor.columns for factor in factors), *scopes]
    order = elimination_rounds(size, scopes)
    numbers = [0] * size
    for number, latent in enumerate(reversed(order)):
        numbers[latent] = number
    try:
        plan = plan_of(size, [[numbers[c] for c in scope] for scope in scopes])
    except ArgumentError:
        return None
    numbered = tuple(Factor(f.residual.numbered(numbers), f.scale) for f in factors)
    return Potentials(dag, sources, numbered, Places(plan)), tuple(numbers)


def _places(slots: Sequence[int]) -> dict[int, int]:
    return {slot: place for place, slot in enumerate(dict.fromkeys(slots))}

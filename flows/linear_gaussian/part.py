"""This file integrates the Gaussian latents out of some nodes of a model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from ..errors import ArgumentError
from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.shapes import LatentRows
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.cliques import plan_of
from ..structured_gaussian.elimination import Conditional, Elimination, Information
from .factors import is_normal
from .forms import LinearForm, Readers, linear_forms
from .order import elimination_rounds
from .places import Places
from .potentials import Factor, Potentials
from .standardised import Standardised

__all__ = ["Part", "part_of"]

_MOST_TERMS = 2**17
"""Of all linear forms on the way."""
_MOST_WORK = 2**24
"""Cubes of all cliques' widths: one clique of 256 columns, or a chain of any length."""
_MOST_NUMBERS = 2**20
"""Of the precisions of rows that are held at once."""
_LEAST_SHARE = 1e-11
"""Of a column's precision that is left when others are eliminated: five digits."""


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes of a graph, and the Gaussian latents among them.

    Attributes:
        lowered: The graph.
        nodes: Names of the nodes.
        latents: Names of the Gaussian ones that are integrated out.
        potentials: The factors that have these.
        standardised: The same, for rows whose precisions would lose their digits.
        others: Names of the nodes that have no Gaussian latent.
    """

    lowered: LoweredGraph
    nodes: tuple[str, ...]
    latents: tuple[str, ...]
    potentials: Potentials
    standardised: Standardised
    others: tuple[str, ...]

    @property
    def num_entries(self) -> int:
        """How many numbers the precisions hold, for one row."""
        return self.potentials.places.num_entries

    def log_density(
        self, model: Model, filled: LatentRows, observed: Float[Tensor, "rows observed"]
    ) -> Float[Tensor, " row"]:
        """Return the log of the nodes' densities, integrated over the Gaussian latents.

        Args:
            model: Of the graph.
            filled: All latents; those that are integrated out have any values.
            observed: Data, one row for all or one for each.
        """
        if not self.latents:
            return self._log_density(model, filled, observed)
        mean, log_root, is_lost = _eliminated(self, filled, observed)
        at_mean = filled.index_copy(1, self._columns, mean)
        constant = len(self.latents) * HALF_LOG_TWO_PI
        if not bool(is_lost.any()):
            return self._log_density(model, at_mean, observed) + constant - log_root
        found = filled.new_zeros(len(filled))
        for kept in _parts(~is_lost, len(filled)):
            own = self._log_density(model, at_mean[kept], _data(observed, kept))
            found = found.index_copy(0, kept, own + constant - log_root[kept])
        for rows in _parts(is_lost, self.standardised.num_rows):
            data = _data(observed, rows)
            terms = model.log_terms_of(self.nodes, filled[rows], data)
            own = self.standardised.log_density(filled[rows], data)
            own = own + terms[:, self._others].sum(-1)
            found = found.index_copy(0, rows, own)
        return found

    def eliminated(
        self, filled: LatentRows, observed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the Gaussian latents' means, and half the log|det| of precisions.

        And which rows have so small scales that digits of these are lost. Where a row
        has no mean it is 0.
        """
        information, given = self._given(filled, observed)
        log_roots = self._elimination.log_roots(given)
        with torch.no_grad():
            none = filled.new_zeros(len(filled), len(self.latents))
            mean = self._elimination.from_residual(none, given)
            mean = torch.where(torch.isfinite(mean), mean, 0.0)
            is_lost = self._is_lost(information, log_roots)
            is_lost &= self.standardised.is_small
        return mean, log_roots.sum(-1), is_lost

    def parts_of(
        self, filled: LatentRows, observed: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and data, so few at once that their precisions are few."""
        num = max(1, _MOST_NUMBERS // max(1, self.num_entries))
        for first in range(0, len(filled), num):
            own = slice(first, first + num)
            yield filled[own], observed[own] if len(observed) > 1 else observed

    @torch.no_grad()
    def are_lost(self, filled: LatentRows, observed: Tensor) -> Bool[Tensor, " row"]:
        """Return which rows have so small scales that their densities are wrong."""
        if not self.latents or self.standardised.is_small:
            return torch.zeros(len(filled), dtype=torch.bool)
        found = []
        for rows, data in self.parts_of(filled, observed):
            information, given = self._given(rows, data)
            found.append(self._is_lost(information, self._elimination.log_roots(given)))
        return torch.cat(found)

    @torch.no_grad()
    def drawn(
        self,
        filled: LatentRows,
        observed: Float[Tensor, "rows observed"],
        *,
        generator: Generator,
    ) -> LatentRows:
        """Return all latents, with exact draws of the Gaussian ones given the others.

        Args:
            filled: All latents; those that are drawn have any values.
            observed: Data, one row for all or one for each.
            generator: Source of the draws.
        """
        found = []
        for rows, data in self.parts_of(filled, observed):
            noise = torch.randn(
                len(rows),
                len(self.latents),
                generator=generator,
                dtype=filled.dtype,
                device=filled.device,
            )
            information, given = self._given(rows, data)
            drawn = self._elimination.from_residual(noise, given)
            is_lost = self._is_lost(information, self._elimination.log_roots(given))
            is_lost &= self.standardised.is_small
            for some in _parts(is_lost, self.standardised.num_rows):
                drawn[some] = self.standardised.drawn(
                    rows[some], _data(data, some), generator=generator
                )
            found.append(drawn)
        return filled.index_copy(1, self._columns, torch.cat(found))

    def _given(
        self, filled: Tensor, observed: Tensor
    ) -> tuple[Information, list[Conditional]]:
        information = self.potentials.information(filled, observed)
        return information, self._elimination.conditionals(information)

    def _is_lost(self, information: Information, log_roots: Tensor) -> Tensor:
        """Return which rows have a column of whose precision hardly a share is left."""
        whole = self.potentials.diagonal(information)
        has_digits = 2.0 * log_roots > whole.log() + math.log(_LEAST_SHARE)
        return ~has_digits.all(1) & (whole > 0.0).all(1)

    def _log_density(self, model: Model, rows: Tensor, observed: Tensor) -> Tensor:
        if len(self.nodes) == len(self.lowered.nodes):
            return model.log_joint(rows, observed)
        return model.log_terms_of(self.nodes, rows, observed).sum(-1)

    @cached_property
    def _elimination(self) -> Elimination:
        return Elimination(self.potentials.places.plan)

    @cached_property
    def _others(self) -> Tensor:
        """Numbers of the nodes that have no Gaussian latent."""
        found = [n for n, name in enumerate(self.nodes) if name in {*self.others}]
        return torch.tensor(found, dtype=torch.long)

    @cached_property
    def _columns(self) -> Tensor:
        """Of the Gaussian latents among all, in the numbers of the elimination."""
        layout = self.lowered.layout
        return torch.tensor([layout.variable(name).start for name in self.latents])


class _Eliminated(torch.autograd.Function):
    """Means and log roots, slopes being taken at once: few rows are held at a time.

    The mean's own slopes do not matter, as the density is the same at any place.
    """

    @staticmethod
    def forward(
        ctx: Any, filled: Tensor, observed: Tensor, part: Part
    ) -> tuple[Tensor, Tensor, Tensor]:
        means, roots, lost, slopes = [], [], [], []
        is_steep = ctx.needs_input_grad[0]
        for rows, data in part.parts_of(filled, observed):
            with torch.set_grad_enabled(is_steep):
                leaf = rows.detach().requires_grad_(is_steep)
                mean, root, is_lost = part.eliminated(leaf, data)
                total = root.sum()
            if total.requires_grad:
                (slope,) = torch.autograd.grad(total, leaf)
                slopes.append(slope)
            elif is_steep:  # the same at all rows
                slopes.append(torch.zeros_like(rows))
            means.append(mean)
            lost.append(is_lost)
            roots.append(root.detach())
        ctx.slopes = slopes
        found = torch.cat(means), torch.cat(roots), torch.cat(lost)
        ctx.mark_non_differentiable(found[0], found[2])
        return found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, _: Tensor, slope: Tensor, __: Tensor
    ) -> tuple[Tensor, None, None]:
        slopes = torch.cat(ctx.slopes)
        return (
            torch.where(slope.unsqueeze(1) == 0.0, 0.0, slope.unsqueeze(1) * slopes),
            None,
            None,
        )


def _eliminated(
    part: Part, filled: LatentRows, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = _Eliminated.apply(filled, observed, part)  # type: ignore[no-untyped-call]
    return found


def _parts(which: Tensor, most: int) -> tuple[Tensor, ...]:
    """Return the numbers of rows, so many at once."""
    found = which.nonzero()[:, 0]
    return torch.split(found, most) if len(found) else ()


def _data(observed: Tensor, rows: Tensor) -> Tensor:
    return observed[rows] if len(observed) > 1 else observed


def part_of(
    lowered: LoweredGraph, nodes: Sequence[str], latents: Sequence[str]
) -> Part | None:
    """Return some nodes with Gaussian latents; None where that is too large.

    Args:
        lowered: The graph.
        nodes: Names of the nodes.
        latents: Names of those among them that are integrated out, as in
            `factors.gaussian_latents`.
    """
    dag = lowered.dag
    slots = [lowered.nodes[name].slots[0] for name in latents]
    readers = Readers(dag, slots)
    residuals, scales = [], []
    joined: dict[str, int] = {}
    for name in nodes:
        entry = lowered.nodes[name]
        if is_normal(entry) and readers.bits[lowered.terms[name]]:
            (mean,), (scale,) = entry.branches[0].parameters
            residuals.append(dag.affine([(entry.slots[0], 1.0), (mean, -1.0)], 0.0))
            scales.append(scale)
            joined[name] = len(joined)
    forms = linear_forms(dag, slots, residuals, most=_MOST_TERMS)
    if forms is None:
        return None
    scopes = [form.coefficients.keys() for form in forms]
    order = elimination_rounds(len(latents), scopes)
    number = {latent: place for place, latent in enumerate(reversed(order))}
    factors = tuple(
        Factor(
            LinearForm(form.rest, {number[c]: s for c, s in form.coefficients.items()}),
            scale,
        )
        for form, scale in zip(forms, scales, strict=True)
    )
    try:
        plan = plan_of(len(latents), [factor.columns for factor in factors])
    except ArgumentError:
        return None
    if sum(len(batch.own) * batch.width**3 for batch in plan.batches) > _MOST_WORK:
        return None
    potentials = Potentials(dag, lowered.slots, factors, Places(plan))
    ordered = tuple(latents[place] for place in reversed(order))
    own = tuple(joined[name] for name in ordered)
    # `latents` are in the order of the graph, `ordered` in that of the elimination.
    columns = tuple(number[place] for place in range(len(latents)))
    standardised = Standardised(potentials, own, columns)
    others = tuple(name for name in nodes if name not in joined)
    return Part(lowered, tuple(nodes), ordered, potentials, standardised, others)

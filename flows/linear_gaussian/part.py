"""This file integrates the Gaussian latents out of some nodes of a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from ..errors import ArgumentError
from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.shapes import LatentRows
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.cliques import plan_of
from ..structured_gaussian.elimination import Conditional, Elimination
from .factors import is_normal
from .forms import LinearForm, Readers, linear_forms
from .order import elimination_rounds
from .potentials import Factor, Potentials

__all__ = ["Part", "part_of"]

_MOST_TERMS = 2**17
"""Of all linear forms on the way."""
_MOST_ENTRIES = 2**16
"""Of the precisions of all cliques, for one row."""
_MOST_NUMBERS = 2**20
"""Of the precisions of rows that are held at once."""


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes of a graph, and the Gaussian latents among them.

    Attributes:
        lowered: The graph.
        nodes: Names of the nodes.
        latents: Names of the Gaussian ones that are integrated out.
        potentials: The factors that have these.
    """

    lowered: LoweredGraph
    nodes: tuple[str, ...]
    latents: tuple[str, ...]
    potentials: Potentials

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
        mean, log_root = _eliminated(self, filled, observed)
        at_mean = filled.index_copy(1, self._columns, mean)
        found = self._log_density(model, at_mean, observed)
        return found + len(self.latents) * HALF_LOG_TWO_PI - log_root

    def mean_and_log_root(
        self, filled: LatentRows, observed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the Gaussian latents' means, and half the log|det| of precisions.

        Where a row has none the mean is 0.
        """
        given = self._given(filled, observed)
        with torch.no_grad():
            none = filled.new_zeros(len(filled), len(self.latents))
            mean = self._elimination.from_residual(none, given)
            mean = torch.where(torch.isfinite(mean), mean, 0.0)
        return mean, self._elimination.log_roots(given).sum(-1)

    def parts_of(
        self, filled: LatentRows, observed: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and data, so few at once that their precisions are few."""
        num = max(1, _MOST_NUMBERS // max(1, self.potentials.num_entries))
        for first in range(0, len(filled), num):
            own = slice(first, first + num)
            yield filled[own], observed[own] if len(observed) > 1 else observed

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
            given = self._given(rows, data)
            found.append(self._elimination.from_residual(noise, given))
        return filled.index_copy(1, self._columns, torch.cat(found))

    def _given(self, filled: Tensor, observed: Tensor) -> list[Conditional]:
        information = self.potentials.information(filled, observed)
        return self._elimination.conditionals(information)

    def _log_density(self, model: Model, rows: Tensor, observed: Tensor) -> Tensor:
        if len(self.nodes) == len(self.lowered.nodes):
            return model.log_joint(rows, observed)
        return model.log_terms_of(self.nodes, rows, observed).sum(-1)

    @cached_property
    def _elimination(self) -> Elimination:
        return Elimination(self.potentials.plan)

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
    ) -> tuple[Tensor, Tensor]:
        means, roots, slopes = [], [], []
        is_steep = ctx.needs_input_grad[0]
        for rows, data in part.parts_of(filled, observed):
            with torch.set_grad_enabled(is_steep):
                leaf = rows.detach().requires_grad_(is_steep)
                mean, root = part.mean_and_log_root(leaf, data)
                total = root.sum()
            if total.requires_grad:
                (slope,) = torch.autograd.grad(total, leaf)
                slopes.append(slope)
            elif is_steep:  # the same at all rows
                slopes.append(torch.zeros_like(rows))
            means.append(mean)
            roots.append(root.detach())
        ctx.slopes = slopes
        found = torch.cat(means), torch.cat(roots)
        ctx.mark_non_differentiable(found[0])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, slope: Tensor) -> tuple[Tensor, None, None]:
        slopes = torch.cat(ctx.slopes)
        return (
            torch.where(slope.unsqueeze(1) == 0.0, 0.0, slope.unsqueeze(1) * slopes),
            None,
            None,
        )


def _eliminated(
    part: Part, filled: LatentRows, observed: Tensor
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _Eliminated.apply(filled, observed, part)  # type: ignore[no-untyped-call]
    return found


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
    for name in nodes:
        entry = lowered.nodes[name]
        if is_normal(entry) and readers.bits[lowered.terms[name]]:
            (mean,), (scale,) = entry.branches[0].parameters
            residuals.append(dag.affine([(entry.slots[0], 1.0), (mean, -1.0)], 0.0))
            scales.append(scale)
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
    potentials = Potentials(dag, lowered.slots, factors, plan)
    if potentials.num_entries > _MOST_ENTRIES:
        return None
    ordered = tuple(latents[place] for place in reversed(order))
    return Part(lowered, tuple(nodes), ordered, potentials)

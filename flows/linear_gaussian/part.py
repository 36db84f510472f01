"""This file integrates the Gaussian latents out of some nodes of a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.shapes import LatentRows
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.elimination import Conditional, Information
from .eliminated import EliminatedLatents, in_order
from .factors import is_normal, residual_and_scale
from .forms import Readers, linear_forms
from .potentials import Factor, numbered_potentials
from .standardised import Standardised

__all__ = ["Part", "part_of"]

_MOST_TERMS = 2**17
"""Of all linear forms on the way."""
_MOST_WORK = 2**24
"""Cubes of all cliques' widths: one clique of 256 columns, or a chain of any length."""
_LEAST_SHARE = 1e-11
"""Of a column's precision that is left when others are eliminated: five digits."""


@dataclass(frozen=True, eq=False)
class Part(EliminatedLatents):
    """Nodes of a graph, and the Gaussian latents among them, integrated out.

    Attributes:
        nodes: Names of the nodes.
        standardised: The potentials, for rows whose precisions would lose their digits.
        others: Names of the nodes that have no Gaussian latent.
    """

    nodes: tuple[str, ...]
    standardised: Standardised
    others: tuple[str, ...]

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
        at_mean = filled.index_copy(1, self.columns, mean)
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
        log_roots = self.elimination.log_roots(given)
        with torch.no_grad():
            none = filled.new_zeros(len(filled), len(self.latents))
            mean = self.elimination.from_residual(none, given)
            mean = torch.where(torch.isfinite(mean), mean, 0.0)
            is_lost = self.is_lost(information, log_roots)
            is_lost &= self.standardised.is_small
        return mean, log_roots.sum(-1), is_lost

    @torch.no_grad()
    def are_lost(self, filled: LatentRows, observed: Tensor) -> Bool[Tensor, " row"]:
        """Return which rows have so small scales that their densities are wrong."""
        if not self.latents or self.standardised.is_small:
            return torch.zeros(len(filled), dtype=torch.bool)
        found = []
        for rows, data in self.parts_of(filled, observed):
            information, given = self._given(rows, data)
            found.append(self.is_lost(information, self.elimination.log_roots(given)))
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
            drawn = self.elimination.from_residual(noise, given)
            is_lost = self.is_lost(information, self.elimination.log_roots(given))
            is_lost &= self.standardised.is_small
            for some in _parts(is_lost, self.standardised.num_rows):
                drawn[some] = self.standardised.drawn(
                    rows[some], _data(data, some), generator=generator
                )
            found.append(drawn)
        return filled.index_copy(1, self.columns, torch.cat(found))

    def _given(
        self, filled: Tensor, observed: Tensor
    ) -> tuple[Information, list[Conditional]]:
        information = self.potentials.information(filled, observed)
        return information, self.elimination.conditionals(information)

    def is_lost(
        self, information: Information, log_roots: Float[Tensor, "row column"]
    ) -> Bool[Tensor, " row"]:
        """Return which rows have a column of whose precision hardly a share is left.

        Args:
            information: Of the rows.
            log_roots: What it leaves, by `Elimination.log_roots`.
        """
        whole = self.potentials.diagonal(information)
        has_digits = 2.0 * log_roots > whole.log() + math.log(_LEAST_SHARE)
        return ~has_digits.all(1) & (whole > 0.0).all(1)

    def _log_density(self, model: Model, rows: Tensor, observed: Tensor) -> Tensor:
        if len(self.nodes) == len(self.lowered.nodes):
            return model.log_joint(rows, observed)
        return model.log_terms_of(self.nodes, rows, observed).sum(-1)

    @cached_property
    def _others(self) -> Tensor:
        """Numbers of the nodes that have no Gaussian latent."""
        found = [n for n, name in enumerate(self.nodes) if name in {*self.others}]
        return torch.tensor(found, dtype=torch.long)


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
            residual, scale = residual_and_scale(entry, dag)
            residuals.append(residual)
            scales.append(scale)
            joined[name] = len(joined)
    forms = linear_forms(dag, slots, residuals, most=_MOST_TERMS)
    if forms is None:
        return None
    factors = [Factor(form, s) for form, s in zip(forms, scales, strict=True)]
    found = numbered_potentials(dag, lowered.slots, len(latents), factors)
    if found is None:
        return None
    potentials, numbers = found
    batches = potentials.places.plan.batches
    if sum(len(batch.own) * batch.width**3 for batch in batches) > _MOST_WORK:
        return None
    ordered = in_order(latents, numbers)
    own = tuple(joined[name] for name in ordered)
    # `numbers` are by the order of the graph, `ordered` is that of the elimination.
    standardised = Standardised(potentials, own, numbers)
    others = tuple(name for name in nodes if name not in joined)
    return Part(lowered, ordered, potentials, tuple(nodes), standardised, others)

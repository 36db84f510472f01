r"""This file approximates the integral over latents that are nearly Gaussian.

Given the other latents c and the data x, these latents v have normal factors and
others (`sites.py`). At their mode m(c), with L(c) the root of the precision there,

    log p(c, x) ≈ log p(c, m, x) + d/2 log 2π - log|L|,

Laplace's approximation. Its slope in c is that of the first term at a fixed m, the
mode being where the slope in v is 0, less that of log|L|, by central differences.

References:
    Tierney, Kadane, "Accurate approximations for posterior moments and marginal
    densities", JASA 1986.
    Rue, Martino, Chopin, "Approximate Bayesian inference for latent Gaussian models by
    using integrated nested Laplace approximations", JRSS B 2009.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from ..errors import ArgumentError
from ..inference.noise import standard_normal
from ..linear_gaussian.factors import is_linear_normal
from ..linear_gaussian.forms import Readers, linear_forms
from ..linear_gaussian.order import elimination_rounds
from ..linear_gaussian.places import Places
from ..linear_gaussian.potentials import Factor, Potentials
from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.shapes import LatentRows
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.cliques import plan_of
from ..structured_gaussian.elimination import Conditional, Elimination
from .modes import modes
from .sites import Sites, predictors_of, sites_of

__all__ = ["Around", "LaplacePart", "laplace_part"]

_MOST_TERMS = 2**17
"""Of all linear forms on the way."""
_MOST_NUMBERS = 2**20
"""Of the precisions of rows that are held at once."""
_MOST_PREDICTORS = 3
"""Of a factor that is no normal of a linear mean."""
_STEP = 1e-4
_LEAST_STEP = 1e-3
"""Of differences: relative to a value, and to this where it is near 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """The Gaussians around the modes of some rows.

    Attributes:
        part: Whose latents these are.
        given: Columns given earlier ones.
    """

    part: "LaplacePart"
    given: Sequence[Conditional]

    @property
    def log_root(self) -> Float[Tensor, " row"]:
        """Half the log|det| of the precisions."""
        return self.part.elimination.log_roots(self.given).sum(-1)

    def at(self, residuals: Float[Tensor, "row column"]) -> Tensor:
        """Return the columns whose standardised values these are."""
        return self.part.elimination.from_residual(residuals, self.given)

    def residuals(self, columns: Float[Tensor, "row column"]) -> Tensor:
        """Return the standardised values of columns."""
        return self.part.elimination.to_residual(columns, self.given)


@dataclass(frozen=True, eq=False)
class LaplacePart:
    """All nodes of a graph, and the nearly Gaussian latents among them.

    Attributes:
        lowered: The graph.
        latents: Names of these, in the numbers of the elimination.
        potentials: Their factors that are normals of linear means.
        sites: The others.
    """

    lowered: LoweredGraph
    latents: tuple[str, ...]
    potentials: Potentials
    sites: Sites

    @property
    def num_entries(self) -> int:
        """How many numbers all matrices hold, for one row."""
        return self.potentials.places.num_entries + self.sites.num_coefficients

    def log_density(
        self, model: Model, filled: LatentRows, observed: Float[Tensor, "rows observed"]
    ) -> Float[Tensor, " row"]:
        """Return the log density with these latents integrated out, approximately.

        Args:
            model: Of the graph.
            filled: All latents; those that are integrated out have any values.
            observed: Data, one row for all or one for each.
        """
        mean, log_root = _modes_of(self, filled, observed)
        at_mean = filled.index_copy(1, self.columns, mean)
        constant = len(self.latents) * HALF_LOG_TWO_PI
        return model.log_joint(at_mean, observed) + constant - log_root

    def are_lost(
        self,
        filled: LatentRows,
        observed: Tensor,  # noqa: ARG002 - as an exact part
    ) -> Bool[Tensor, " row"]:
        """Return that no row is: draws are weighed by their own densities."""
        return torch.zeros(len(filled), dtype=torch.bool)

    @torch.no_grad()
    def drawn(
        self,
        filled: LatentRows,
        observed: Float[Tensor, "rows observed"],
        *,
        generator: Generator,
    ) -> LatentRows:
        """Return all latents, the nearly Gaussian ones drawn around their modes."""
        found = []
        for rows, data in self.parts_of(filled, observed):
            noise = standard_normal(len(rows), len(self.latents), generator=generator)
            found.append(self.around(rows, data).at(noise))
        return filled.index_copy(1, self.columns, torch.cat(found))

    @torch.no_grad()
    def around(self, filled: LatentRows, observed: Tensor) -> Around:
        """Return the Gaussians around the modes given the other latents."""
        information = self.potentials.information(filled, observed)
        given = self.sites.given(filled, observed)
        return Around(self, modes(self.elimination, information, given))

    def parts_of(
        self, filled: LatentRows, observed: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and data, so few at once that their matrices are few."""
        num = max(1, _MOST_NUMBERS // self.num_entries)
        for first in range(0, len(filled), num):
            own = slice(first, first + num)
            yield filled[own], observed[own] if len(observed) > 1 else observed

    def with_slopes(
        self, filled: LatentRows, observed: Tensor
    ) -> tuple[Tensor, Tensor, LatentRows]:
        """Return modes and log roots, and slopes of these in the other latents."""
        steps = _STEP * (_LEAST_STEP + filled.abs())
        moved = [filled]
        for column in self._others:
            for sign in (1.0, -1.0):
                there = filled.clone()
                there[:, column] += sign * steps[:, column]
                moved.append(there)
        data = observed if len(observed) == 1 else observed.repeat(len(moved), 1)
        mean, roots = self.mean_and_log_root(torch.cat(moved), data)
        here, *ends = roots.reshape(len(moved), -1)
        slopes = torch.zeros_like(filled)
        for place, column in enumerate(self._others):
            rise = ends[2 * place] - ends[2 * place + 1]
            slopes[:, column] = rise / (2.0 * steps[:, column])
        return mean[: len(filled)], here, slopes

    def mean_and_log_root(
        self, filled: LatentRows, observed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return modes, 0 where there is none, and log roots."""
        around = self.around(filled, observed)
        mean = around.at(filled.new_zeros(len(filled), len(self.latents)))
        return torch.where(torch.isfinite(mean), mean, 0.0), around.log_root

    @cached_property
    def elimination(self) -> Elimination:
        """Of the columns."""
        return Elimination(self.potentials.places.plan)

    @cached_property
    def columns(self) -> Tensor:
        """Of these latents among all, in the numbers of the elimination."""
        layout = self.lowered.layout
        return torch.tensor([layout.variable(name).start for name in self.latents])

    @cached_property
    def _others(self) -> list[int]:
        """Columns of the other latents."""
        own = set(self.columns.tolist())
        return [c for c in range(self.lowered.layout.latent_dim) if c not in own]


class _Modes(torch.autograd.Function):
    """Modes, which have no slopes of their own, and log roots, slopes taken at once."""

    @staticmethod
    def forward(
        ctx: Any, filled: Tensor, observed: Tensor, part: LaplacePart
    ) -> tuple[Tensor, Tensor]:
        means, roots, slopes = [], [], []
        for rows, data in part.parts_of(filled, observed):
            if ctx.needs_input_grad[0]:
                mean, root, slope = part.with_slopes(rows, data)
                slopes.append(slope)
            else:
                mean, root = part.mean_and_log_root(rows, data)
            means.append(mean)
            roots.append(root)
        ctx.slopes = slopes
        found = torch.cat(means), torch.cat(roots)
        ctx.mark_non_differentiable(found[0])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, slope: Tensor) -> tuple[Tensor, None, None]:
        slopes = torch.cat(ctx.slopes)
        own = slope.unsqueeze(1)
        return torch.where(own == 0.0, 0.0, own * slopes), None, None


def _modes_of(
    part: LaplacePart, filled: LatentRows, observed: Tensor
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _Modes.apply(filled, observed, part)  # type: ignore[no-untyped-call]
    return found


def laplace_part(lowered: LoweredGraph, latents: Sequence[str]) -> LaplacePart | None:
    """Return a graph with nearly Gaussian latents; None where nothing is to be gained.

    That is where all their factors are normals of linear means, or one reads more of
    them than a few numbers tell, or the others' distributions read them.

    Args:
        lowered: The graph.
        latents: Names as in `factors.conditionally_gaussian`.
    """
    dag = lowered.dag
    readers = Readers(dag, [lowered.nodes[name].slots[0] for name in latents])
    residuals, scales, terms = [], [], []
    observed = {*lowered.graph.observed}
    for name, entry in lowered.nodes.items():
        term = lowered.terms[name]
        if not readers.bits[term]:
            continue
        if is_linear_normal(entry, readers):
            (mean,), (scale,) = entry.branches[0].parameters
            residuals.append(dag.affine([(entry.slots[0], 1.0), (mean, -1.0)], 0.0))
            scales.append(scale)
        elif name in observed:
            terms.append(term)
        else:
            return None
    found = [predictors_of(readers, term, _MOST_PREDICTORS) for term in terms]
    read = [parts for parts in found if parts is not None]
    if not terms or len(read) < len(found):
        return None
    parts = [part for each in read for part in each]
    slots = [lowered.nodes[name].slots[0] for name in latents]
    forms = linear_forms(dag, slots, [*residuals, *parts], most=_MOST_TERMS)
    if forms is None:
        return None
    normal, rest = forms[: len(residuals)], iter(forms[len(residuals) :])
    predictors = [tuple(next(rest) for _ in each) for each in read]
    scopes = [{*form.coefficients} for form in normal]
    scopes += [{c for form in each for c in form.coefficients} for each in predictors]
    order = elimination_rounds(len(latents), scopes)
    number = {latent: place for place, latent in enumerate(reversed(order))}
    try:
        plan = plan_of(len(latents), [[number[c] for c in scope] for scope in scopes])
    except ArgumentError:
        return None
    places = Places(plan)
    factors = tuple(
        Factor(form.numbered(number), scale)
        for form, scale in zip(normal, scales, strict=True)
    )
    numbered = [tuple(form.numbered(number) for form in each) for each in predictors]
    return LaplacePart(
        lowered,
        tuple(latents[place] for place in reversed(order)),
        Potentials(dag, lowered.slots, factors, places),
        sites_of(lowered, terms, read, numbered, places),
    )

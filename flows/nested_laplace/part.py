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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..linear_gaussian.eliminated import EliminatedLatents, in_order
from ..linear_gaussian.factors import has_linear_mean, residual_and_scale
from ..linear_gaussian.forms import Readers, linear_forms
from ..linear_gaussian.potentials import Factor, numbered_potentials
from ..model.lowered_graph import LoweredGraph, supports_of
from ..model.model import Model
from ..model.shapes import LatentRows
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.elimination import Conditional
from .modes import modes
from .predictors import predictors_of
from .sites import Sites, sites_of

__all__ = ["Around", "LaplacePart", "laplace_part"]

_MOST_TERMS = 2**17
"""Of all linear forms on the way."""
_MOST_PREDICTORS = 3
"""Of a factor that is no normal of a linear mean."""
_STEP = 1e-4
"""Of differences, relative to a value,"""
_LEAST = 1e-3
"""and to so much more where it may change its sign."""
_ABOVE_0 = ("positive", "nonnegative")


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
class LaplacePart(EliminatedLatents):
    """All nodes of a graph, and the nearly Gaussian latents among them.

    Attributes:
        sites: The factors that are no normals of linear means.
    """

    sites: Sites

    @property
    def num_entries(self) -> int:
        """How many numbers the matrices hold, for one row."""
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

    @torch.no_grad()
    def around(self, filled: LatentRows, observed: Tensor) -> Around:
        """Return the Gaussians around the modes given the other latents."""
        information = self.potentials.information(filled, observed)
        given = self.sites.given(filled, observed)
        return Around(self, modes(self.elimination, information, given))

    def with_slopes(
        self, filled: LatentRows, observed: Tensor
    ) -> tuple[Tensor, Tensor, LatentRows]:
        """Return modes and log roots, and slopes of these in the other latents."""
        sizes = self._least + filled.abs()
        steps = _STEP * torch.where(sizes > 0.0, sizes, _LEAST)
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
    def _least(self) -> Tensor:
        """What is added to the size of a value that a difference is taken around."""
        found = torch.full((self.lowered.layout.latent_dim,), _LEAST)
        for variable in self.lowered.layout.latents:
            supports = supports_of(self.lowered.nodes[variable.name])
            if all(support in _ABOVE_0 for support, _ in supports):
                found[list(variable.columns)] = 0.0
        return found

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
    slots = [lowered.nodes[name].slots[0] for name in latents]
    readers = Readers(dag, slots)
    residuals, scales, terms = [], [], []
    observed = {*lowered.graph.observed}
    for name, entry in lowered.nodes.items():
        term = lowered.terms[name]
        if not readers.bits[term]:
            continue
        if has_linear_mean(entry, readers):
            residual, scale = residual_and_scale(entry, dag)
            residuals.append(residual)
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
    forms = linear_forms(dag, slots, [*residuals, *parts], most=_MOST_TERMS)
    if forms is None:
        return None
    normal, rest = forms[: len(residuals)], iter(forms[len(residuals) :])
    predictors = [tuple(next(rest) for _ in each) for each in read]
    factors = [Factor(form, scale) for form, scale in zip(normal, scales, strict=True)]
    scopes = [{c for form in each for c in form.coefficients} for each in predictors]
    joined = numbered_potentials(dag, lowered.slots, len(latents), factors, scopes)
    if joined is None:
        return None
    potentials, numbers = joined
    numbered = [tuple(form.numbered(numbers) for form in each) for each in predictors]
    sites = sites_of(lowered, terms, read, numbered, potentials.places)
    return LaplacePart(lowered, in_order(latents, numbers), potentials, sites)

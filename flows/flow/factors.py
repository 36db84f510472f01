r"""This file finds models that are linear in their latents once the data are known.

In such a model products of a latent with an observed value are allowed: a regression on
observed inputs, a convolution with an observed filter. Factor f says of its latents v_f
and its observed values w_f, both at zero mean and unit scale, that

    eps_f = [1, v_f]^T M_f [1, w_f] ~ N(0, 1).

M_f is fitted by least squares on draws, and tested on them. Latents without parents in
the model whose density is not normal count by their mean and variance. If such latents
depend on each other all the same, as those of a table may, the factor of each is its
regression on the earlier latents that its conditional in the inverse reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.layout import Layout
from .regression import STANDARD_ERRORS, Regression, is_more_than_chance
from .structure import Factor, Structure

__all__ = ["find_factors", "fit_factors"]

_MOST_PRODUCTS = 400
_DRAWS_PER_PRODUCT = 50
_MOST_KURTOSIS = 100.0


@torch.no_grad()
def fit_factors(
    factors: Sequence[Factor],
    free: Float[Tensor, "draw free"],
    observed: Float[Tensor, "draw observed"],
) -> Float[Tensor, " coefficient"]:
    """M_f of each factor row by row, factor after factor, from normalised draws."""
    parts = [
        _coefficients(factor, _Design.of(factor, free, observed).full())
        for factor in factors
    ]
    return torch.cat(parts) if parts else free.new_zeros(0)


@torch.no_grad()
def find_factors(
    structure: Structure,
    layout: Layout,
    parents: Mapping[str, Sequence[str]],
    free: Float[Tensor, "draw free"],
    observed: Float[Tensor, "draw observed"],
) -> Structure:
    """The structure with the factors of a model that is linear given the data.

    Without products of latents and observed values the plain affine layer is exact
    already; then, and where the model is not of this kind, the structure comes back as
    it was given.

    Args:
        structure: from the inverse.
        layout: columns of latents and observed variables.
        parents: of each node in the model, by name.
        free: latents of joint draws, in free coordinates.
        observed: observed values of the same draws.
    """
    factors = tuple(_candidates(layout, parents))
    largest = max((1 + len(f.latents)) * (1 + len(f.observed)) for f in factors)
    if not any(len(f.observed) > f.is_of_observed for f in factors) or largest > min(
        _MOST_PRODUCTS, free.shape[0] // _DRAWS_PER_PRODUCT
    ):
        return structure
    try:
        replace(structure, factors=factors)
    except ValueError:  # too large, or an edge would be needed that the inverse lacks
        return structure
    unit, given = _unit(free), _unit(observed)
    needs_products = False
    for factor in sorted(factors, key=lambda f: -len(f.observed)):
        design = _Design.of(factor, unit, given)
        full = design.full()
        if not _is_usable(factor, full):
            return structure
        needs_products = needs_products or _needs_products(design, full)
    if not needs_products:
        return structure
    chosen = tuple(_with_dependence(f, structure, unit, given) for f in factors)
    return replace(structure, factors=chosen)


def _with_dependence(
    factor: Factor, structure: Structure, free: Tensor, observed: Tensor
) -> Factor:
    """The factor of a latent without parents, on others that its draws depend on.

    Law: the others are read in the inverse, so that eliminating the latent connects
    none that it does not connect anyway.
    """
    if factor.is_of_observed or factor.observed or len(factor.latents) > 1:
        return factor
    own = next(b for b in structure.blocks if factor.latents[0] in b.free_columns)
    read = [c for j in own.latent_parents for c in structure.blocks[j].free_columns]
    wide = replace(factor, latents=(*factor.latents, *read))
    if not read or (1 + len(wide.latents)) > _MOST_PRODUCTS:
        return factor
    explained = 1.0 - float(_Design.of(wide, free, observed).full().scale) ** 2
    return wide if is_more_than_chance(explained, len(read), len(free)) else factor


def _candidates(
    layout: Layout, parents: Mapping[str, Sequence[str]]
) -> Iterable[Factor]:
    """One factor per column of a node that is a latent or has a latent parent."""
    latents = {v.name: tuple(v.free_columns) for v in layout.latents}
    given = {v.name: tuple(v.columns) for v in layout.observed}
    for name, own in [*latents.items(), *given.items()]:
        above = [c for p in parents[name] if p in latents for c in latents[p]]
        seen = [c for p in parents[name] if p in given for c in given[p]]
        for k, column in enumerate(own):
            before = own[:k]
            if name in latents:
                yield Factor(
                    latents=(column, *before, *above),
                    observed=tuple(seen),
                    is_of_observed=False,
                )
            elif above:
                yield Factor(
                    latents=tuple(above),
                    observed=(column, *before, *seen),
                    is_of_observed=True,
                )


@dataclass(frozen=True, slots=True)
class _Design:
    """A factor's first column, and the columns that may predict it.

    Args:
        draws: the first column, the others, products of latents and observed values,
            ones.
        moments: means of the products of their columns.
        num_plain: number of columns that may predict it, without products.
    """

    draws: Tensor
    moments: Tensor
    num_plain: int

    @classmethod
    def of(cls, factor: Factor, free: Tensor, observed: Tensor) -> "_Design":
        """Columns of normalised draws."""
        latents = free[:, list(factor.latents)]
        given = observed[:, list(factor.observed)]
        if factor.is_of_observed:
            target, given = given[:, :1], given[:, 1:]
        else:
            target, latents = latents[:, :1], latents[:, 1:]
        products = (latents[:, :, None] * given[:, None, :]).flatten(1)
        ones = torch.ones_like(target)
        draws = torch.cat([target, given, latents, products, ones], -1)
        moments = draws.T @ draws / draws.shape[0]
        return cls(draws, moments, given.shape[1] + latents.shape[1])

    @property
    def num_products(self) -> int:
        """Number of products."""
        return self.draws.shape[1] - 2 - self.num_plain

    def plain(self) -> Regression:
        """Without products."""
        reads = range(1, 1 + self.num_plain)
        return Regression.of(self.draws, self.moments, 0, reads)

    def full(self) -> Regression:
        """With products, as far as they clearly count."""
        draws, moments = self.draws, self.moments
        every, plain = range(1, draws.shape[1] - 1), range(1, 1 + self.num_plain)
        return _pruned(draws, moments, Regression.of(draws, moments, 0, every, plain))


def _needs_products(design: _Design, full: Regression) -> bool:
    """Whether products explain more than chance."""
    explained = 0.0
    if design.num_products:
        explained = 1.0 - float(full.scale / design.plain().scale) ** 2
    return is_more_than_chance(explained, design.num_products, len(design.draws))


def _is_usable(factor: Factor, full: Regression) -> bool:
    """Whether a factor is linear and normal, or the prior of a latent with moments."""
    is_prior = len(factor.latents) == 1 and not factor.observed
    return 1e-7 < float(full.scale) < torch.inf and (
        full.is_linear_gaussian or (is_prior and full.kurtosis < _MOST_KURTOSIS)
    )


def _pruned(draws: Tensor, moments: Tensor, full: Regression) -> Regression:
    """The regression on what clearly counts, if it explains as much.

    Spurious slopes would do harm where a draw of the flow leaves the support of the
    draws of the model, as they are least certain there.
    """
    every = torch.arange(1, draws.shape[1] - 1)
    inverse = torch.linalg.pinv(moments[1:, 1:], rtol=1e-12, hermitian=True)
    errors = full.scale * (torch.diagonal(inverse)[:-1] / len(draws)).sqrt()
    is_clear = full.slopes.abs() > STANDARD_ERRORS * errors
    kept = every[is_clear.cpu()].tolist()
    few = Regression.of(draws, moments, 0, kept, every.tolist())
    explained = 1.0 - float(full.scale / few.scale) ** 2
    if is_more_than_chance(explained, len(every) - len(kept), len(draws)):
        return full
    slopes = torch.zeros_like(full.slopes)
    slopes[is_clear] = few.slopes
    return replace(few, slopes=slopes, is_linear_gaussian=full.is_linear_gaussian)


def _coefficients(factor: Factor, fit: Regression) -> Tensor:
    """M_f, row by row, of a regression of its first column."""
    num_latents, num_observed = len(factor.latents), len(factor.observed)
    matrix = fit.slopes.new_zeros(1 + num_latents, 1 + num_observed)
    first = 1 + (not factor.is_of_observed), 1 + factor.is_of_observed
    given, latents, products = torch.split(
        -fit.slopes,
        [
            num_observed + 1 - first[1],
            num_latents + 1 - first[0],
            (num_observed + 1 - first[1]) * (num_latents + 1 - first[0]),
        ],
    )
    matrix[0, 0] = -fit.intercept
    matrix[0, first[1] :] = given
    matrix[first[0] :, 0] = latents
    matrix[first[0] :, first[1] :] = products.view(len(latents), len(given))
    if factor.is_of_observed:
        matrix[0, 1] = 1.0
    else:
        matrix[1, 0] = 1.0
    return (matrix / fit.scale).flatten()


def _unit(draws: Tensor) -> Tensor:
    """Columns at zero mean and unit scale, as far as they vary."""
    scale = draws.std(0)
    tiny = 1e-12 * (1.0 + draws.abs().amax(0))
    return (draws - draws.mean(0)) / torch.where(scale > tiny, scale, 1.0)

r"""This file is the affine layer whose coefficients depend on the data.

The factors of a model that is linear in its latents once the data w are known
(`factors.py`) are together A(w) v + a(w) = eps, so that given w the latents are normal.
With R R^T = A^T A, R upper triangular in sampling order,

    r = R^T v + R^-1 A^T a ~ N(0, I),

which is the affine layer r_i = (v_i - centre_i - B_i v) / s_i with

    s = diag(R)^-1,   B = I - diag(s) R^T,   centre = -diag(s) R^-1 A^T a.

Eliminating latents in the reverse of sampling order is what inverted the graph, so B
has no entry that the inverse lacks. Where latents are not normal a priori, the vector
field has the rest to learn.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .factors import fit_factors
from .scaling import AffineMap, Scaling
from .structure import Structure

__all__ = ["FactorNormalisation"]

_ROWS = 256
"""Data sets at once; more need memory and are no faster."""


class FactorNormalisation(Scaling):
    """The affine layer from a structure's factors; the identity until `fit`.

    Args:
        structure: with its factors.
    """

    factor_coefficients: Tensor

    def __init__(self, structure: Structure) -> None:
        super().__init__(structure)
        free = [c for block in structure.blocks for c in block.free_columns]
        place = {column: i for i, column in enumerate(free)}
        width = len(free) + 1
        entries: list[int] = []
        given: list[int] = []
        identity: list[float] = []
        for row, factor in enumerate(structure.factors):
            for column in (len(free), *(place[c] for c in factor.latents)):
                for observed in (structure.observed_dim, *factor.observed):
                    entries.append(row * width + column)
                    given.append(observed)
                    identity.append(
                        not factor.is_of_observed
                        and column == place[factor.latents[0]]
                        and observed == structure.observed_dim
                    )
        is_free = [c < structure.free_dim for c in structure.state_order]
        self.register_buffer("factor_coefficients", torch.tensor(identity).float())
        for name, index in (
            ("entries", torch.tensor(entries)),
            ("given", torch.tensor(given)),
            ("free_columns", torch.tensor(is_free).nonzero()[:, 0]),
            ("unorder", torch.tensor(structure.state_order).argsort()),
        ):
            self.register_buffer(name, index, persistent=False)

    def affine(self, observed: Float[Tensor, "*batch observed"]) -> AffineMap:
        """The map for rows of normalised observed values, one for equal neighbours."""
        flat = observed.reshape(-1, observed.shape[-1])
        with torch.no_grad():
            maps, which = torch.unique_consecutive(flat, return_inverse=True, dim=0)
            parts = [self._root(rows) for rows in torch.split(maps, _ROWS)]
            root, offset = (torch.cat(part) for part in zip(*parts, strict=True))
        scales = 1.0 / torch.diagonal(root, dim1=-2, dim2=-1)
        free, width = self.buffer("free_columns"), self.structure.state_dim
        residual_scale = scales.new_ones(len(root), width)
        residual_scale[:, free] = scales
        centre = scales.new_zeros(len(root), width)
        centre[:, free] = -scales * offset
        coefficients = scales.new_zeros(len(root), width, width)
        slopes = -scales[..., None] * torch.tril(root, -1)
        coefficients[:, free[:, None], free] = slopes
        kind, shape = self.shift.dtype, observed.shape[:-1]
        log_det = self.log_det(residual_scale.to(kind))
        if len(maps) == 1:
            return AffineMap(
                shift=self.shift,
                scale=self.scale,
                coefficients=coefficients[0].to(kind),
                residual_scale=residual_scale[0].to(kind),
                centre=centre[0].to(kind).expand(*shape, width),
                log_det=log_det[0],
            )
        return AffineMap(
            shift=self.shift,
            scale=self.scale,
            coefficients=coefficients.to(kind),
            residual_scale=residual_scale.to(kind)[which].reshape(*shape, width),
            centre=centre.to(kind)[which].reshape(*shape, width),
            log_det=log_det[which].reshape(*shape, log_det.shape[-1]),
            which=which,
        )

    def fit_layer(
        self,
        scaled: Float[Tensor, "draw state"],
        given: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Fits the factors to normalised draws; returns the names of all nodes."""
        columns = self.buffer("unorder")[: self.structure.free_dim]
        fitted = fit_factors(self.structure.factors, scaled[:, columns], given)
        self.factor_coefficients.copy_(fitted)
        return self.structure.names

    def _root(
        self, observed: Float[Tensor, "batch observed"]
    ) -> tuple[Float[Tensor, "batch free free"], Float[Tensor, "batch free"]]:
        """R^T and R^-1 A^T a of each row in float64, latents in sampling order."""
        rows = observed.double()
        extended = torch.cat([rows, torch.ones_like(rows[:, :1])], -1)
        terms = self.factor_coefficients.double() * extended[:, self.buffer("given")]
        width = self.structure.free_dim + 1
        flat = terms.new_zeros(len(rows), len(self.structure.factors) * width)
        flat.index_add_(1, self.buffer("entries"), terms)
        joined = flat.view(len(rows), len(self.structure.factors), width)
        matrix, offset = joined[..., :-1], joined[..., -1:]
        precision = (matrix.mT @ matrix).flip(-2, -1)
        found, info = torch.linalg.cholesky_ex(precision)
        root = torch.where(info[:, None, None] > 0, torch.nan, found).flip(-2, -1)
        centre = torch.linalg.solve_triangular(root, matrix.mT @ offset, upper=True)
        return root.mT, centre[..., 0]

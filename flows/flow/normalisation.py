r"""This file maps latents to the scale-free residual coordinates the flow works in.

Two steps, both fitted to joint draws of the model and then fixed.

1. Shift and scale, v = (z - m) / d (`scaling.py`).
2. Structured affine layer: r_i = (v_i - a_i - B_i p_i) / s_i, with p_i the inverse
   parents of node i, latent and observed, and earlier columns of the same node. It is
   triangular along the inverse, so log|det dr/dz| = -sum log(s d), and reach does not
   change. On a linear-Gaussian model r is standard normal given x: this layer is exact.

In residual coordinates a child no longer sees its parent's value, only the residual, so
step 2 can hide what a conditional needs. It is therefore used for node j only if

- j is linear-Gaussian given its inverse parents as far as the draws can tell, or its
  residual is light-tailed and at most `_SHARP` times its marginal scale (any times in a
  flow of one data set, where no node reads data); and
- every child of j in the inverse is linear-Gaussian too, and so needs nothing, or reads
  all the parents of j, and so can recover j's value.

Otherwise a = 0, B = 0, s = 1 for that node. A flow whose conditionals read scaled
values besides has step 2 for every node without heavy tails.

`widen` makes the second condition true where it pays: children of a sharp node get its
parents as further inputs. All of them are ancestors, so reach does not change, and what
the inverse says about independence still holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .packing import Packing
from .regression import Regression
from .scaling import AffineMap, Scaling
from .structure import StateBlock, Structure

__all__ = ["Normalisation", "widen"]

_SHARP = 0.5
_LIGHT_KURTOSIS = 3.0
_MOST_KURTOSIS = 100.0
"""Of a residual that is still scaled by its standard deviation."""
_MOST_NEW_READS = 24


class Normalisation(Scaling):
    """The two steps' numbers, kept as buffers; the identity until `fit`.

    Args:
        structure: blocks and edges.
        everywhere: whether the flow reads scaled values too, so that nothing is hidden.
        log_beyond: see `Scaling`.
    """

    offset: Tensor
    residual_scale: Tensor
    coefficients: Tensor
    observed_coefficients: Tensor

    def __init__(
        self, structure: Structure, *, everywhere: bool = False, log_beyond: float = 0.0
    ) -> None:
        super().__init__(structure, log_beyond=log_beyond)
        self._everywhere = everywhere
        width = structure.state_dim
        columns = structure.observed_dim
        self._reads = _latent_reads(structure)
        ones = (1,) * width
        self._packing = Packing(ones, tuple((r,) for r in self._reads), width)
        observed = tuple(
            (structure.blocks[node].observed_columns,) for node in structure.state_node
        )
        self._observed_packing = Packing(ones, observed, columns)
        self.register_buffer("offset", torch.zeros(width))
        self.register_buffer("residual_scale", torch.ones(width))
        self.register_buffer("coefficients", torch.zeros(self._packing.size))
        self.register_buffer(
            "observed_coefficients", torch.zeros(self._observed_packing.size)
        )
        for name, index in (
            ("index", self._packing.dense_index()),
            ("observed_index", self._observed_packing.dense_index()),
        ):
            self.register_buffer(name, index, persistent=False)

    def affine(self, observed: Float[Tensor, "*batch observed"]) -> AffineMap:
        """The map for rows of normalised observed values."""
        matrix = _scatter(self.coefficients, self.buffer("index"), self._packing)
        given = _scatter(
            self.observed_coefficients,
            self.buffer("observed_index"),
            self._observed_packing,
        )
        return AffineMap(
            shift=self.shift,
            scale=self.scale,
            coefficients=matrix,
            residual_scale=self.residual_scale,
            centre=self.offset + observed @ given.T,
            log_det=self.log_det(self.residual_scale),
        )

    def fit_layer(
        self,
        scaled: Float[Tensor, "draw state"],
        given: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Fits step 2 to normalised draws; returns the names of nodes that have it."""
        fits = self._regressions(scaled, given)
        active = self._active(fits)
        self._store(fits, active)
        return tuple(self.structure.blocks[i].name for i in sorted(active))

    def _regressions(self, scaled: Tensor, given: Tensor) -> list["_NodeFit"]:
        fits = []
        column = 0
        width = scaled.shape[1]
        blocks = self.structure.blocks
        sharp = _SHARP if any(block.observed_columns for block in blocks) else torch.inf
        draws = torch.cat([scaled, given, torch.ones_like(scaled[:, :1])], -1)
        draws = draws.T.contiguous().T  # columns are what is taken of it
        moments = draws.T @ draws / draws.shape[0]
        for block in blocks:
            columns = range(column, column + len(block.free_columns))
            seen = [width + c for c in block.observed_columns]
            regressions = [
                Regression.of(draws, moments, c, [*self._reads[c], *seen])
                for c in columns
            ]
            fits.append(_NodeFit.of(regressions, columns, sharp))
            column += block.size
        return fits

    def _active(self, fits: list["_NodeFit"]) -> set[int]:
        """Nodes whose affine step is used, decided from the last node back."""
        if self._everywhere:
            return {i for i, fit in enumerate(fits) if fit.is_light}
        blocks = self.structure.blocks
        active: set[int] = set()
        for j in range(len(blocks) - 1, -1, -1):
            if not (fits[j].is_linear_gaussian or fits[j].is_sharp):
                continue
            parents = set(blocks[j].latent_parents)
            seen = set(blocks[j].observed_columns)
            children = [
                i for i, block in enumerate(blocks) if j in block.latent_parents
            ]
            if all(
                (i in active and fits[i].is_linear_gaussian)
                or (
                    parents <= set(blocks[i].latent_parents)
                    and seen <= set(blocks[i].observed_columns)
                )
                for i in children
            ):
                active.add(j)
        return active

    def _store(self, fits: list["_NodeFit"], active: set[int]) -> None:
        self.offset.zero_()
        self.residual_scale.fill_(1.0)
        self.coefficients.zero_()
        self.observed_coefficients.zero_()
        for i in active:
            for column, fit in zip(fits[i].columns, fits[i].regressions, strict=True):
                latent = self._packing.block_starts[column][0]
                count = len(self._reads[column])
                self.coefficients[latent : latent + count] = fit.slopes[:count]
                given = self._observed_packing.block_starts[column][0]
                rest = fit.slopes[count:]
                self.observed_coefficients[given : given + rest.numel()] = rest
                self.offset[column] = fit.intercept
                self.residual_scale[column] = fit.scale


@torch.no_grad()
def widen(
    structure: Structure,
    free: Float[Tensor, "draw free"],
    observed: Float[Tensor, "draw observed"],
) -> Structure:
    """The structure in which children of sharp nodes also read those nodes' parents.

    Law: reach is that of the given structure. A child that would need more than
    `_MOST_NEW_READS` further inputs for one parent does not get them.

    Args:
        structure: from the inverse.
        free: latents of joint draws, in free coordinates.
        observed: observed values of the same draws.
    """
    normalisation = Normalisation(structure).double()
    fits = normalisation._regressions(
        *normalisation.standardise(free.double(), observed.double())
    )
    blocks: list[StateBlock] = []
    active = {i for i, f in enumerate(fits) if f.is_linear_gaussian or f.is_sharp}
    for i, block in enumerate(structure.blocks):
        latents, seen = set(block.latent_parents), set(block.observed_columns)
        waiting = [] if fits[i].is_linear_gaussian else list(block.latent_parents)
        while waiting:
            j = waiting.pop()
            if j not in active:
                continue
            more = set(blocks[j].latent_parents) - latents
            more_seen = set(blocks[j].observed_columns) - seen
            if len(more) + len(more_seen) > _MOST_NEW_READS:
                active.discard(j)
                continue
            latents |= more
            seen |= more_seen
            waiting.extend(more)
        blocks.append(
            replace(
                block,
                latent_parents=tuple(sorted(latents)),
                observed_columns=tuple(sorted(seen)),
            )
        )
    return replace(structure, blocks=tuple(blocks))


@dataclass(frozen=True, slots=True)
class _NodeFit:
    """The regressions of one node's columns."""

    regressions: tuple[Regression, ...]
    columns: tuple[int, ...]
    is_linear_gaussian: bool
    is_sharp: bool
    is_light: bool

    @classmethod
    def of(
        cls, fits: Sequence[Regression], columns: Sequence[int], sharp: float
    ) -> "_NodeFit":
        is_fit = all(1e-7 < float(fit.scale) < torch.inf for fit in fits)
        return cls(
            tuple(fits),
            tuple(columns),
            is_linear_gaussian=is_fit and all(f.is_linear_gaussian for f in fits),
            is_sharp=is_fit
            and all(
                float(f.scale) < sharp and f.kurtosis < _LIGHT_KURTOSIS for f in fits
            ),
            is_light=is_fit and all(f.kurtosis < _MOST_KURTOSIS for f in fits),
        )


def _latent_reads(structure: Structure) -> tuple[tuple[int, ...], ...]:
    """Per state column, the free state columns its regression reads."""
    starts = [0]
    for block in structure.blocks:
        starts.append(starts[-1] + block.size)

    def free(node: int) -> range:
        return range(
            starts[node], starts[node] + len(structure.blocks[node].free_columns)
        )

    reads: list[tuple[int, ...]] = []
    for position, block in enumerate(structure.blocks):
        parents = [c for j in block.latent_parents for c in free(j)]
        own = list(free(position))
        for k in range(block.size):
            is_free = k < len(own)
            reads.append((*parents, *own[:k]) if is_free else ())
    return tuple(reads)


def _scatter(packed: Tensor, index: Tensor, packing: Packing) -> Tensor:
    flat = packed.new_zeros(packing.num_rows * packing.num_columns)
    return flat.scatter(0, index, packed).view(packing.num_rows, packing.num_columns)

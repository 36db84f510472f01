r"""This file maps latents to the scale-free residual coordinates the flow works in.

Two steps, both fitted to joint draws of the model and then fixed.

1. Shift and scale: v = (z - m) / d per column, observed values likewise, with the mean
   and standard deviation of the draws; a column without variance keeps scale 1. Where
   the tails are so heavy that the standard deviation says little about the bulk (more
   than `_HEAVY` times the scale of the quartiles), median and quartiles take over.
2. Structured affine layer: r_i = (v_i - a_i - B_i p_i) / s_i, with p_i the inverse
   parents of node i, latent and observed, and earlier columns of the same node. It is
   triangular along the inverse, so log|det dr/dz| = -sum log(s d), and reach does not
   change. On a linear-Gaussian model r is standard normal given x: this layer is exact.

In residual coordinates a child no longer sees its parent's value, only the residual, so
step 2 can hide what a conditional needs. It is therefore used for node j only if

- j is linear-Gaussian given its inverse parents as far as the draws can tell, or its
  residual is light-tailed and at most `_SHARP` times its marginal scale; and
- every child of j in the inverse is linear-Gaussian too, and so needs nothing, or reads
  all the parents of j, and so can recover j's value.

Otherwise a = 0, B = 0, s = 1 for that node.

`widen` makes the second condition true where it pays: children of a sharp node get its
parents as further inputs. All of them are ancestors, so reach does not change, and what
the inverse says about independence still holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .structure import Packing, StateBlock, Structure

__all__ = ["AffineMap", "Normalisation", "widen"]

_HEAVY = 10.0
_SHARP = 0.5
_LIGHT_KURTOSIS = 3.0
_STANDARD_ERRORS = 5.0
_MOST_FEATURES = 60
_MOST_NEW_READS = 24
_TEST_DRAWS = 20_000
_NORMAL_QUARTILE = 0.6744897501960817


@dataclass(frozen=True, slots=True)
class AffineMap:
    """The fitted map, with dense coefficients, for rows of known observed values.

    Args:
        shift: m of the state columns.
        scale: d of the state columns.
        coefficients: B, strictly lower triangular.
        residual_scale: s of the state columns.
        centre: a + C x of each row.
        log_det: log|det dr/dz| of each node, the same for all rows.
    """

    shift: Tensor
    scale: Tensor
    coefficients: Tensor
    residual_scale: Tensor
    centre: Float[Tensor, "*batch state"]
    log_det: Float[Tensor, " node"]

    def to_residual(
        self, state: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """Residual coordinates of a state; undone by `from_residual`."""
        scaled = (state - self.shift) / self.scale
        predicted = self.centre + scaled @ self.coefficients.T
        return (scaled - predicted) / self.residual_scale

    def from_residual(
        self, residual: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """State of residual coordinates; undone by `to_residual`."""
        target = residual * self.residual_scale + self.centre
        width = target.shape[-1]
        matrix = torch.eye(width, dtype=target.dtype, device=target.device)
        scaled = torch.linalg.solve_triangular(
            (matrix - self.coefficients).T,
            target.reshape(-1, width),
            upper=True,
            left=False,
            unitriangular=True,
        )
        back: Tensor = scaled.reshape(target.shape) * self.scale + self.shift
        return back


class Normalisation(nn.Module):
    """The two steps' numbers, kept as buffers; the identity until `fit`.

    Args:
        structure: blocks and edges.
    """

    shift: Tensor
    scale: Tensor
    observed_shift: Tensor
    observed_scale: Tensor
    offset: Tensor
    residual_scale: Tensor
    coefficients: Tensor
    observed_coefficients: Tensor

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self.structure = structure
        width = structure.state_dim
        columns = structure.observed_dim
        self._reads = _latent_reads(structure)
        ones = (1,) * width
        self._packing = Packing(ones, tuple((r,) for r in self._reads), width)
        observed = tuple(
            (structure.blocks[node].observed_columns,) for node in structure.state_node
        )
        self._observed_packing = Packing(ones, observed, columns)
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("observed_shift", torch.zeros(columns))
        self.register_buffer("observed_scale", torch.ones(columns))
        self.register_buffer("offset", torch.zeros(width))
        self.register_buffer("residual_scale", torch.ones(width))
        self.register_buffer("coefficients", torch.zeros(self._packing.size))
        self.register_buffer(
            "observed_coefficients", torch.zeros(self._observed_packing.size)
        )
        for name, index in (
            ("index", self._packing.dense_index()),
            ("observed_index", self._observed_packing.dense_index()),
            ("node", torch.tensor(structure.state_node)),
        ):
            self.register_buffer(name, index, persistent=False)

    def normalise_observed(
        self, observed: Float[Tensor, "*batch observed"]
    ) -> Float[Tensor, "*batch observed"]:
        """Observed values at zero mean and unit scale."""
        return (observed - self.observed_shift) / self.observed_scale

    def affine(self, observed: Float[Tensor, "*batch observed"]) -> AffineMap:
        """The map for rows of normalised observed values."""
        matrix = _scatter(self.coefficients, self._buffer("index"), self._packing)
        given = _scatter(
            self.observed_coefficients,
            self._buffer("observed_index"),
            self._observed_packing,
        )
        logs = -(self.scale.log() + self.residual_scale.log())
        nodes = logs.new_zeros(len(self.structure.blocks))
        return AffineMap(
            shift=self.shift,
            scale=self.scale,
            coefficients=matrix,
            residual_scale=self.residual_scale,
            centre=self.offset + observed @ given.T,
            log_det=nodes.index_add(0, self._buffer("node"), logs),
        )

    def _buffer(self, name: str) -> Tensor:
        return cast("Tensor", getattr(self, name))

    @torch.no_grad()
    def fit(
        self,
        free: Float[Tensor, "draw free"],
        observed: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Fits both steps to joint draws; returns the names of nodes with step 2.

        Raises:
            ValueError: if a draw is not finite.
        """
        scaled, given = self._standardise(free.double(), observed.double())
        fits = self._regressions(scaled, given)
        active = self._active(fits)
        self._store(fits, active)
        return tuple(self.structure.blocks[i].name for i in sorted(active))

    def _standardise(self, free: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Fits step 1; returns scaled state columns and observed values."""
        for where, array in (("latents", free), ("observed values", observed)):
            bad = (~torch.isfinite(array)).any(-1).sum()
            if bad:
                raise ValueError(
                    f"normalisation: draws of the {where}; expected finite numbers; "
                    f"got {int(bad)} of {array.shape[0]} rows with others"
                )
        padding = free.new_zeros(free.shape[0], self.structure.auxiliary_dim)
        order = list(self.structure.state_order)
        state = torch.cat([free, padding], -1)[:, order]
        shift, scale = _location_and_scale(state)
        observed_shift, observed_scale = _location_and_scale(observed)
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.observed_shift.copy_(observed_shift)
        self.observed_scale.copy_(observed_scale)
        return (state - shift) / scale, (observed - observed_shift) / observed_scale

    def _regressions(self, scaled: Tensor, given: Tensor) -> list["_NodeFit"]:
        fits = []
        column = 0
        width = scaled.shape[1]
        draws = torch.cat([scaled, given, torch.ones_like(scaled[:, :1])], -1)
        moments = draws.T @ draws / draws.shape[0]
        for block in self.structure.blocks:
            columns = range(column, column + len(block.free_columns))
            seen = [width + c for c in block.observed_columns]
            regressions = [
                _Regression.of(draws, moments, c, [*self._reads[c], *seen])
                for c in columns
            ]
            fits.append(_NodeFit.of(regressions, columns))
            column += block.size
        return fits

    def _active(self, fits: list["_NodeFit"]) -> set[int]:
        """Nodes whose affine step is used, decided from the last node back."""
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
        *normalisation._standardise(free.double(), observed.double())
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
    return Structure(tuple(blocks), structure.observed_dim)


@dataclass(frozen=True, slots=True)
class _Regression:
    """Least squares of one column on what it may read."""

    intercept: Tensor
    slopes: Tensor
    scale: Tensor
    kurtosis: float
    is_linear_gaussian: bool

    @classmethod
    def of(
        cls, draws: Tensor, moments: Tensor, column: int, reads: list[int]
    ) -> "_Regression":
        """Regression of a column; the last column of the draws is one."""
        columns = [*reads, draws.shape[1] - 1]
        solved = _solve(moments[columns][:, columns], moments[columns, column])
        residual = draws[:, column] - draws[:, columns] @ solved
        count = residual.numel()
        scale = (residual.square().sum() / max(1, count - len(columns))).sqrt()
        few = slice(0, _TEST_DRAWS)
        tested = residual[few]
        unit = (tested - tested.mean()) / tested.std()
        count = unit.numel()
        kurtosis = float(unit.pow(4).mean() - 3.0)
        is_normal = (
            abs(float(unit.pow(3).mean())) < _STANDARD_ERRORS * (6.0 / count) ** 0.5
            and abs(kurtosis) < _STANDARD_ERRORS * (24.0 / count) ** 0.5
        )
        is_linear = is_normal and not any(
            _explains(_quadratic(draws[few, reads]), moment)
            for moment in (unit, unit.square() - 1.0)
        )
        return cls(
            intercept=solved[-1],
            slopes=solved[:-1],
            scale=scale,
            kurtosis=kurtosis,
            is_linear_gaussian=is_linear,
        )


@dataclass(frozen=True, slots=True)
class _NodeFit:
    """The regressions of one node's columns."""

    regressions: tuple[_Regression, ...]
    columns: tuple[int, ...]
    is_linear_gaussian: bool
    is_sharp: bool

    @classmethod
    def of(cls, fits: Sequence[_Regression], columns: Sequence[int]) -> "_NodeFit":
        is_fit = all(1e-7 < float(fit.scale) < torch.inf for fit in fits)
        return cls(
            tuple(fits),
            tuple(columns),
            is_linear_gaussian=is_fit and all(f.is_linear_gaussian for f in fits),
            is_sharp=is_fit
            and all(
                float(f.scale) < _SHARP and f.kurtosis < _LIGHT_KURTOSIS for f in fits
            ),
        )


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Least-norm solution of the normal equations."""
    solved: Tensor = torch.linalg.pinv(matrix, rtol=1e-12, hermitian=True) @ right
    return solved


def _quadratic(reads: Tensor) -> Tensor:
    """Squares, products of neighbours, cubes; clipped to the bulk."""
    bulk = reads.clamp(-4.0, 4.0)
    products = [bulk * bulk.roll(shift, -1) for shift in range(min(3, reads.shape[1]))]
    products.append(bulk.pow(3))
    return torch.cat(products, -1)[:, :_MOST_FEATURES]


def _explains(features: Tensor, target: Tensor) -> bool:
    """Whether features explain more of the target than chance: n R^2 is chi-square."""
    if features.shape[1] == 0:
        return False
    design = torch.cat([torch.ones_like(target[:, None]), features], -1)
    residual = target - design @ _solve(design.T @ design, design.T @ target)
    centred = target - target.mean()
    explained = 1.0 - residual.square().sum() / centred.square().sum()
    freedom = features.shape[1]
    bound = freedom + _STANDARD_ERRORS * (2.0 * freedom) ** 0.5
    return bool(float(explained) * target.numel() > bound)


def _location_and_scale(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, or those of the quartiles under heavy tails."""
    if draws.shape[-1] == 0:
        return draws.new_zeros(0), draws.new_ones(0)
    centre = draws.mean(0)
    spread = draws.std(0)
    levels = draws.new_tensor([0.25, 0.5, 0.75])
    low, median, high = torch.quantile(draws, levels, dim=0)
    bulk = (high - low) / (2.0 * _NORMAL_QUARTILE)
    is_heavy = (bulk > 0) & (spread > _HEAVY * bulk)
    centre = torch.where(is_heavy, median, centre)
    spread = torch.where(is_heavy, bulk, spread)
    tiny = 1e-12 * (1.0 + centre.abs())
    return centre, torch.where(spread > tiny, spread, torch.ones_like(spread))


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

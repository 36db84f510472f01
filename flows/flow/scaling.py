"""This file shifts and scales latents and observed values by their draws.

v = (z - m) / d per column, observed values likewise, with the mean and standard
deviation of the draws; a column without variance keeps scale 1. Where the tails are so
heavy that the standard deviation says little about the bulk (more than `_HEAVY` times
the scale of the quartiles), median and quartiles take over; observed values of such
columns may grow by their logarithm alone beyond some distance from the median, as a
linear layer would carry those far out anywhere.

What is left is for the affine layer, r_i = (v_i - centre_i - B_i v) / s_i, whose
numbers depend on the observed values (`AffineMap`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ArgumentError
from .structure import Structure

__all__ = ["AffineMap", "Scaling", "location_and_scale"]

_HEAVY = 10.0
_NORMAL_QUARTILE = 0.6744897501960817
"""Upper quartile of N(0, 1)."""
_ROWS = 256
"""Rows with maps of their own that are taken together."""


@dataclass(frozen=True, slots=True)
class AffineMap:
    """The fitted map, with dense coefficients, for rows of known observed values.

    Args:
        shift: m of the state columns.
        scale: d of the state columns.
        coefficients: B, strictly lower triangular; one for all rows, or several.
        residual_scale: s of the state columns, of all rows or of each.
        centre: predicted v_i less B_i v.
        log_det: log|det dr/dz| of each node, of all rows or of each.
        which: which of several B is a row's.
    """

    shift: Tensor
    scale: Tensor
    coefficients: Float[Tensor, "*maps state state"]
    residual_scale: Float[Tensor, "*rows state"]
    centre: Float[Tensor, "*batch state"]
    log_det: Float[Tensor, "*rows node"]
    which: Tensor | None = None

    def to_residual(
        self, state: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """Residual coordinates of a state; undone by `from_residual`."""
        scaled = self.scaled(state)
        return (scaled - self.centre - self._slopes(scaled)) / self.residual_scale

    def from_residual(
        self, residual: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch state"]:
        """State of residual coordinates; undone by `to_residual`."""
        target = residual * self.residual_scale + self.centre
        return self.unscaled(self._by_map(_solved, target, self.coefficients))

    def scaled(self, state: Float[Tensor, "*batch state"]) -> Tensor:
        """Shifted and scaled values v; undone by `unscaled`."""
        return (state - self.shift) / self.scale

    def unscaled(self, scaled: Float[Tensor, "*batch state"]) -> Tensor:
        """State of values v."""
        return scaled * self.scale + self.shift

    def next_scaled(
        self,
        residual: Float[Tensor, "batch column"],
        scaled: Float[Tensor, "batch state"],
        columns: Tensor,
    ) -> Float[Tensor, "batch column"]:
        """Values v of some columns, from their residuals and the v that they need.

        Args:
            residual: of these columns.
            scaled: v of the columns before them; others are multiplied by zero.
            columns: state columns, none of which needs another.
        """
        slopes = self.coefficients[..., columns, :]
        centre = self.centre[..., columns] + self._by_map(_multiplied, scaled, slopes)
        return residual * self.residual_scale[..., columns] + centre

    def _slopes(self, scaled: Tensor) -> Tensor:
        """B v."""
        return self._by_map(_multiplied, scaled, self.coefficients)

    def _by_map(
        self, use: Callable[[Tensor, Tensor], Tensor], rows: Tensor, slopes: Tensor
    ) -> Tensor:
        """What becomes of rows by their B; few at once, as each may have its own."""
        flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
        shape = (*rows.shape[:-1], slopes.shape[-2])
        if self.which is None:
            return use(slopes, flat).reshape(shape)
        parts = [
            use(slopes[which], part[:, None])[:, 0]
            for which, part in zip(
                torch.split(self.which, _ROWS), torch.split(flat, _ROWS), strict=True
            )
        ]
        return torch.cat(parts).reshape(shape)


def _multiplied(slopes: Tensor, rows: Tensor) -> Tensor:
    return rows @ slopes.mT


def _solved(slopes: Tensor, rows: Tensor) -> Tensor:
    """Rows v of which v - B v is given."""
    identity = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    solved: Tensor = torch.linalg.solve_triangular(
        (identity - slopes).mT, rows, upper=True, left=False, unitriangular=True
    )
    return solved


class Scaling(nn.Module, ABC):
    """Location and scale, kept as buffers, and an affine layer on top.

    Args:
        structure: blocks and edges.
        log_beyond: scales from the median beyond which observed values of heavy tails
            grow by their logarithm; 0 for never.
    """

    shift: Tensor
    scale: Tensor
    observed_shift: Tensor
    observed_scale: Tensor
    observed_beyond: Tensor

    def __init__(self, structure: Structure, *, log_beyond: float = 0.0) -> None:
        super().__init__()
        self.structure = structure
        self._log_beyond = log_beyond
        if log_beyond:
            none = torch.zeros(structure.observed_dim)
            self.register_buffer("observed_beyond", none)
        for prefix, width in (
            ("", structure.state_dim),
            ("observed_", structure.observed_dim),
        ):
            self.register_buffer(f"{prefix}shift", torch.zeros(width))
            self.register_buffer(f"{prefix}scale", torch.ones(width))
        self.register_buffer(
            "node", torch.tensor(structure.state_node).long(), persistent=False
        )

    @abstractmethod
    def affine(self, observed: Float[Tensor, "*batch observed"]) -> AffineMap:
        """The map for rows of normalised observed values."""

    @abstractmethod
    def fit_layer(
        self,
        scaled: Float[Tensor, "draw state"],
        given: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Fits the affine layer to normalised draws; returns the nodes with one."""

    @torch.no_grad()
    def fit(
        self,
        free: Float[Tensor, "draw free"],
        observed: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Fits all numbers to joint draws; returns the nodes with an affine layer.

        Raises:
            ArgumentError: if a draw is not finite.
        """
        return self.fit_layer(*self.standardise(free.double(), observed.double()))

    def normalise_observed(
        self, observed: Float[Tensor, "*batch observed"]
    ) -> Float[Tensor, "*batch observed"]:
        """Observed values at zero mean and unit scale."""
        scaled = (observed - self.observed_shift) / self.observed_scale
        return _nearer(scaled, self.observed_beyond) if self._log_beyond else scaled

    def log_det(
        self, residual_scale: Float[Tensor, "*rows state"]
    ) -> Float[Tensor, "*rows node"]:
        """log|det dr/dz| of each node."""
        logs = -(self.scale.log() + residual_scale.log())
        nodes = logs.new_zeros(*logs.shape[:-1], len(self.structure.blocks))
        return nodes.index_add(-1, self.buffer("node"), logs)

    def buffer(self, name: str) -> Tensor:
        """A buffer by its name."""
        return cast("Tensor", getattr(self, name))

    def standardise(self, free: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Fits location and scale; returns scaled state columns and observed values."""
        for where, array in (("latents", free), ("observed values", observed)):
            bad = (~torch.isfinite(array)).any(-1).sum()
            if bad:
                raise ArgumentError.at(
                    "normalisation",
                    f"draws of the {where}",
                    "finite numbers",
                    f"{int(bad)} of {array.shape[0]} rows with others",
                )
        padding = free.new_zeros(free.shape[0], self.structure.nuisance_dim)
        order = list(self.structure.state_order)
        state = torch.cat([free, padding], -1)[:, order]
        shift, scale = location_and_scale(state)
        observed_shift, observed_scale, is_heavy = _fitted(observed)
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.observed_shift.copy_(observed_shift)
        self.observed_scale.copy_(observed_scale)
        if self._log_beyond:
            self.observed_beyond.copy_(self._log_beyond * is_heavy)
        return (state - shift) / scale, self.normalise_observed(observed)


def location_and_scale(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, or those of the quartiles under heavy tails."""
    centre, spread, _ = _fitted(draws)
    return centre, spread


def _fitted(draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Location and scale of each column, and whether its tails are heavy."""
    if draws.shape[-1] == 0:
        none = draws.new_zeros(0)
        return none, draws.new_ones(0), none.bool()
    centre = draws.mean(0)
    spread = draws.std(0)
    levels = draws.new_tensor([0.25, 0.5, 0.75])
    low, median, high = torch.quantile(draws, levels, dim=0)
    bulk = (high - low) / (2.0 * _NORMAL_QUARTILE)
    is_heavy = (bulk > 0) & (spread > _HEAVY * bulk)
    centre = torch.where(is_heavy, median, centre)
    spread = torch.where(is_heavy, bulk, spread)
    tiny = 1e-12 * (1.0 + centre.abs())
    spread = torch.where(spread > tiny, spread, torch.ones_like(spread))
    return centre, spread, is_heavy


def _nearer(values: Tensor, beyond: Tensor) -> Tensor:
    """Values v, or sign(v) b (1 + log |v / b|) where |v| > b > 0.

    Args:
        values: rows of them.
        beyond: b of each column; 0 leaves it.
    """
    least = torch.where(beyond > 0, beyond, 1.0)
    far = torch.maximum(values.abs(), least) / least
    is_far = (beyond > 0) & (far > 1.0)
    return torch.where(is_far, values.sign() * least * (1.0 + far.log()), values)

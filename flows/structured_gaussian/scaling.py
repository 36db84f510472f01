r"""This file is a product of Gaussian potentials as the affine layer of a flow.

Scaled latents v = (z - m) / d become independent standard normals r by eliminating the
columns of the product (`elimination.py`), last sampled first: r is triangular along the
inverse, and of each column the density is that given the columns sampled before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.potentials import Potential
from ..flow.scaling import Scaling
from ..flow.structure import Structure
from ..model.standard_normal import HALF_LOG_TWO_PI
from .cliques import Plan, plan_of
from .elimination import Conditional, Elimination, Information
from .sites import Sites, site_lengths

__all__ = ["PotentialMap", "PotentialScaling", "potential_lengths"]


@dataclass(frozen=True, slots=True, eq=False)
class PotentialMap:
    """The map for rows of known observed values; see `flow.scaling.AffineMap`.

    Args:
        scaling: what it is the map of.
        conditionals: of equal neighbouring rows.
        constant: log of the product where scaled latents are nought, in nats.
        which: which of these is a row's; None if there is one for all.
    """

    scaling: "PotentialScaling"
    conditionals: Sequence[Conditional]
    constant: Float[Tensor, " rows"]
    which: Tensor | None

    @property
    def shift(self) -> Tensor:
        """Of the state columns."""
        return self.scaling.shift

    @property
    def log_det(self) -> Float[Tensor, "rows node"]:
        """log|det dr/dz| of each node, of all rows or of each."""
        columns = self.log_det_columns
        nodes = columns.new_zeros(len(columns), len(self.scaling.structure.blocks))
        return nodes.index_add(-1, self.scaling.buffer("node"), columns)

    @property
    def log_det_columns(self) -> Float[Tensor, "rows state"]:
        """Summands of it, of each state column."""
        logs = self.scaling.elimination.log_roots(self.conditionals)
        free = self.scaling.buffer("free_columns")
        whole = logs.new_zeros(len(logs), self.scaling.structure.state_dim)
        found = whole.index_copy(-1, free, logs) - self.scaling.scale.log()
        found = found.to(self.shift.dtype)
        return found if self.which is None or len(found) == 1 else found[self.which]

    @property
    def log_total(self) -> Float[Tensor, " rows"]:
        """Log of the product's integral over scaled latents, in nats."""
        total = self.constant
        for each in self.conditionals:
            total = total + 0.5 * each.offset.square().sum((-2, -1))
            total = total - each.log_root.sum((-2, -1))
        size = self.scaling.structure.free_dim
        found = (total + size * HALF_LOG_TWO_PI).to(self.shift.dtype)
        return found if self.which is None else found[self.which]

    def conditional(
        self, scaled: Float[Tensor, "batch state"], columns: Tensor
    ) -> tuple[Float[Tensor, "batch chosen"], Float[Tensor, "batch chosen"]]:
        """Centres and scales of free state columns given those before, all scaled."""
        free = self.scaling.buffer("free_columns")
        chosen = torch.searchsorted(free, columns).tolist()
        centres, scales = self.scaling.elimination.conditional(
            scaled[:, free].double(), self._rows(), chosen
        )
        return centres.to(scaled.dtype), scales.to(scaled.dtype).expand_as(centres)

    def next_scaled(
        self,
        residual: Float[Tensor, "batch column"],
        scaled: Float[Tensor, "batch state"],
        columns: Tensor,
    ) -> Float[Tensor, "batch column"]:
        """Values v of some columns, from their residuals and the v that they need."""
        centres, scales = self.conditional(scaled, columns)
        return centres + scales * residual

    def to_residual(self, state: Float[Tensor, "batch state"]) -> Tensor:
        """Residual coordinates of a state; undone by `from_residual`."""
        scaled, free = self.scaled(state), self.scaling.buffer("free_columns")
        moved = self.scaling.elimination.to_residual(
            scaled[..., free].double(), self._rows()
        )
        return scaled.index_copy(-1, free, moved.to(scaled.dtype))

    def from_residual(self, residual: Float[Tensor, "batch state"]) -> Tensor:
        """State of residual coordinates; undone by `to_residual`."""
        free = self.scaling.buffer("free_columns")
        moved = self.scaling.elimination.from_residual(
            residual[..., free].double(), self._rows()
        )
        return self.unscaled(residual.index_copy(-1, free, moved.to(residual.dtype)))

    def scaled(self, state: Float[Tensor, "*batch state"]) -> Tensor:
        """Shifted and scaled values v; undone by `unscaled`."""
        return (state - self.shift) / self.scaling.scale

    def unscaled(self, scaled: Float[Tensor, "*batch state"]) -> Tensor:
        """State of values v."""
        return scaled * self.scaling.scale + self.shift

    def _rows(self) -> list[Conditional]:
        return [each.rows(self.which) for each in self.conditionals]


class PotentialScaling(Scaling):
    """The affine layer from a structure's potentials.

    Args:
        structure: with its potentials.
        hidden: units of a hidden layer of their networks.
        layers: hidden layers.
        generator: source of the first weights.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        hidden: int,
        layers: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(structure)
        free = [c for block in structure.blocks for c in block.free_columns]
        column = torch.tensor(free).argsort().tolist()
        scopes = [
            [column[c] for c in p.latents] for p in structure.potentials if p.latents
        ]
        plan = plan_of(len(free), scopes)
        self.elimination = Elimination(plan)
        offsets, self.sizes = _offsets(plan)
        self.sites = torch.nn.ModuleList(
            Sites(
                alike,
                column,
                plan,
                offsets,
                hidden=hidden,
                layers=layers,
                generator=generator,
            )
            for alike in _alike(structure.potentials)
        )
        is_free = [c < structure.free_dim for c in structure.state_order]
        places = torch.tensor(is_free).nonzero()[:, 0]
        self.register_buffer("free_columns", places, persistent=False)

    def affine(self, observed: Float[Tensor, "batch observed"]) -> PotentialMap:  # type: ignore[override]
        """The map for rows of normalised observed values, one for equal neighbours."""
        with torch.no_grad():
            rows, which = torch.unique_consecutive(observed, return_inverse=True, dim=0)
            first = torch.searchsorted(which, torch.arange(len(rows)).to(which))
        is_one, is_all = len(rows) == 1, len(rows) == len(observed)
        data = observed if is_all else observed[first]
        raw = data.double() * self.observed_scale.double() + self.observed_shift
        information, constant = self._information(raw)
        conditionals = self.elimination.conditionals(information)
        return PotentialMap(
            self, conditionals, constant, None if is_one or is_all else which
        )

    def members(self) -> list[tuple[Sites, list[int]]]:
        """Potentials of each form, and their numbers in the structure."""
        number = {id(each): n for n, each in enumerate(self.structure.potentials)}
        alike = _alike(self.structure.potentials)
        return [
            (sites, [number[id(each)] for each in each_form])
            for sites, each_form in zip(self._sites(), alike, strict=True)
        ]

    @property
    def latent_scaling(self) -> tuple[Tensor, Tensor]:
        """Shift and scale of the free columns in sampling order."""
        free = self.buffer("free_columns")
        return self.shift[free], self.scale[free]

    def moments(
        self, observed: Float[Tensor, "batch observed"]
    ) -> tuple[Tensor, Tensor]:
        """Covariances and means of cliques, of scaled latents, given raw data."""
        information, _ = self._information(observed)
        return self.elimination.moments(self.elimination.conditionals(information))

    def fit_layer(
        self,
        scaled: Float[Tensor, "draw state"],
        given: Float[Tensor, "draw observed"],
    ) -> tuple[str, ...]:
        """Starts the learned potentials from draws; all nodes have the layer."""
        latents = (scaled * self.scale + self.shift)[:, self.buffer("free_columns")]
        observed = given * self.observed_scale + self.observed_shift
        for sites in self._sites():
            sites.fit(observed[:_DRAWS].double(), latents[:_DRAWS].double())
        return self.structure.names

    def _information(self, observed: Tensor) -> tuple[Information, Tensor]:
        """All potentials multiplied, given raw data, and their log at nought."""
        shift, scale = self.latent_scaling
        entries, columns = self.sizes
        same = observed.new_zeros(1, entries)
        each: Tensor | None = None
        linear = observed.new_zeros(len(observed), columns)
        constant = observed.new_zeros(len(observed))
        for sites in self._sites():
            rows = sites.rows(observed, shift, scale)
            if len(rows.precision) == 1:
                same = same.index_add(-1, sites.entries, rows.precision)
            else:
                start = observed.new_zeros(len(observed), entries)
                each = start if each is None else each
                each = each.index_add(-1, sites.entries, rows.precision)
            linear = linear.index_add(-1, sites.columns, rows.linear)
            constant = constant + rows.constant
        return Information(same if each is None else same + each, linear), constant

    def _sites(self) -> list[Sites]:
        return [each for each in self.sites if isinstance(each, Sites)]


_DRAWS = 4_000
"""That a start is taken from."""


def potential_lengths(
    structure: Structure, *, hidden: int, layers: int
) -> dict[str, int]:
    """Lengths of the layer's tensors by name, without making them."""
    found = {}
    for number, alike in enumerate(_alike(structure.potentials)):
        for name, length in site_lengths(alike, hidden, layers).items():
            found[f"sites.{number}.{name}"] = length
    return found


def _alike(potentials: Sequence[Potential]) -> list[list[Potential]]:
    """Potentials that share a network, or are exact and have one shape."""
    groups: dict[tuple[object, ...], list[Potential]] = {}
    for each in potentials:
        key = each.form, each.shape, each.num_predictors, each.own, each.is_shared
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _offsets(plan: Plan) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Where each batch's precisions and linear terms begin; how many there are."""
    entries = columns = 0
    found = []
    for batch in plan.batches:
        found.append((entries, columns))
        entries += len(batch.own) * batch.width**2
        columns += len(batch.own) * batch.width
    return found, (entries, columns)

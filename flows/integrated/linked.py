r"""This file draws latents that are normal together given the others.

Latents v in each other's Markov blankets, all of whose factors are normal with means
that are linear in v, given kept latents c and data x:

    log ∫ Π factors dv,    q(v | c, x) = Π_i N(v_i | v before i, c, x),

both exact, by eliminating the last one first (`flows.linear_gaussian`), with roots of
precisions where scales are so small that precisions lose their digits. Each component
of the graph that the factors make of them is independent of the others.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ArgumentError
from ..linear_gaussian.factors import has_linear_mean
from ..linear_gaussian.forms import Readers
from ..linear_gaussian.part import Part, part_of
from ..linear_gaussian.square_root import SquareRoot
from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.standard_normal import standard_normal_terms
from ..structured_gaussian.elimination import Conditional as OfColumns
from ..structured_gaussian.elimination import Information
from .conditionals import Conditional, blankets
from .grid import NOTHING

__all__ = ["Linked"]

_MOST_NUMBERS = 2**21
"""Of the precisions of rows that are held at once while no gradients are kept."""


class Linked:
    """Latents of a model that are normal together given the others.

    Args:
        model: The model.
        conditionals: Of each of them given all others.

    Raises:
        ArgumentError: If they are not normal together, or too many that are joined.
    """

    def __init__(self, model: Model, conditionals: Sequence[Conditional]) -> None:
        self._model = model.forgiving()
        self._of = {each.name: each for each in conditionals}
        part = _part(model.lowered, [*self._of], _factors(model, conditionals))
        if part is None:
            raise ArgumentError.at(
                "integrated latents",
                "these are in each other's Markov blankets",
                "numbers that are apart, or normal together given all others",
                ", ".join(self._of)[:80],
            )
        self.part: Part = part
        self.columns = [
            model.layout.variable(name).free_start for name in self.part.latents
        ]

    @property
    def microseconds(self) -> float:
        """About how long a row takes with its slopes, by fit to eleven models."""
        factors = self.part.potentials.factors
        batches = self.part.potentials.places.plan.batches
        cliques = sum(len(each.own) for each in batches)
        widths = [len(each.columns) for each in factors]
        cubes = sum(len(each.own) * each.width**3 for each in batches)
        products = cubes + sum(width**2 for width in widths)
        return (
            15.0
            + 3.0 * len(batches)
            + 0.3 * (len(factors) + cliques)
            + 0.02 * sum(widths)
            + 0.001 * products
        )

    @cached_property
    def conditionals(self) -> tuple[Conditional, ...]:
        """Each latent's, given those before it in sampling order."""
        place = {node.name: i for i, node in enumerate(self._model.graph.nodes)}

        def in_order(names: Collection[str]) -> tuple[str, ...]:
            return tuple(sorted(names, key=place.__getitem__))

        found: dict[str, Conditional] = {}
        for component in nx.connected_components(blankets(self._of.values())):
            own = [self._of[name] for name in component]
            factors = in_order({name for each in own for name in each.factors})
            observed = in_order({name for each in own for name in each.observed})
            latents = {name for each in own for name in each.latents} - component
            for name in component:
                read = in_order(latents | self._before[name])
                found[name] = Conditional(name, factors, read, observed)
        return tuple(found[name] for name in self.part.latents)

    @cached_property
    def _before(self) -> dict[str, set[str]]:
        """The linked latents that each one's own conditional reads."""
        names, found = self.part.latents, dict[str, set[str]]()
        for batch in self.part.potentials.places.plan.batches:
            for own, parents in zip(batch.own, batch.parents, strict=True):
                for column in own:
                    read = [c for c in (*own, *parents) if c < column]
                    found[names[column]] = {names[c] for c in read}
        return found

    def log_integral(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> Float[Tensor, " row"]:
        """Return the log of their factors, integrated; see `level.Level`."""
        natural, data = self._natural(free, observed)
        if data.requires_grad:  # `Part` has slopes in the latents alone
            found = self._log_integral(natural, data)
        else:
            found = self.part.log_density(self._model, natural, data)
        # Beyond that, scales are far below the roundings of what they stand by.
        is_lost = ~(found > 0.5 * NOTHING) & ~torch.isnan(free.cpu()).any(-1)
        return torch.where(is_lost, -torch.inf, found).to(free.device)

    def _log_integral(self, natural: Tensor, observed: Tensor) -> Tensor:
        """The log density of all over that of these latents, at their means."""
        none = torch.zeros(len(self.columns), dtype=torch.bool)
        zero = natural.new_zeros(len(natural), len(self.columns))
        mean, terms = self._completed(natural, observed, zero, none)
        whole = natural.index_copy(1, self.part.columns, mean)
        found = self._model.log_terms_of(self.part.nodes, whole, observed).sum(-1)
        return found - terms.sum(-1)

    def completed(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
        base: Float[Tensor, "row linked"],
        is_known: Bool[Tensor, " linked"],
    ) -> tuple[Float[Tensor, "row linked"], Float[Tensor, "row linked"]]:
        """Return values of these latents, and log densities; see `level.Level`."""
        if not len(free):
            return free.new_zeros(base.shape), free.new_zeros(base.shape)
        natural, data = self._natural(free, observed)
        rows = (natural, data, base.double().cpu())
        most = max(1, _MOST_NUMBERS // self.part.num_entries)
        every = len(natural) if torch.is_grad_enabled() else most
        parts = [
            self._completed(own, data, points, is_known.cpu())
            for own, data, points in zip(
                *(torch.split(each, every) for each in rows), strict=True
            )
        ]
        values, terms = (torch.cat(each) for each in zip(*parts, strict=True))
        return values.to(free.device), terms.to(free.device)

    def _completed(
        self, natural: Tensor, observed: Tensor, base: Tensor, is_known: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = natural[:, self.part.columns]
        given, is_lost = self._given(natural, observed)
        values, terms = _made(_Given(self.part, given), own, base, is_known)
        lost = is_lost.nonzero()[:, 0]
        for rows in torch.split(lost, self._num_rows) if len(lost) else ():
            root = self._root(natural[rows], observed[rows])
            if not bool(root.is_one.all()):
                # Again without: what has no value would have no slope either.
                rows = rows[root.is_one]
                if not len(rows):
                    continue
                root = self._root(natural[rows], observed[rows])
            found = _made(root, own[rows], base[rows], is_known)
            values = values.index_copy(0, rows, found[0])
            terms = terms.index_copy(0, rows, found[1])
        return values, terms

    def _root(self, natural: Tensor, observed: Tensor) -> SquareRoot:
        return SquareRoot.of(self.part.standardised, natural, observed)

    @property
    def _num_rows(self) -> int:
        size = len(self.columns) * len(self.part.potentials.factors)
        return max(1, _MOST_NUMBERS // size)

    def _natural(self, free: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        natural, _ = self._model.constrain(free.double().cpu())
        return natural, observed.double().cpu()

    def _given(
        self, natural: Tensor, observed: Tensor
    ) -> tuple[list[OfColumns], Tensor]:
        """Return conditionals, and where they lack digits.

        Standard normal ones where there are none.
        """
        potentials, elimination = self.part.potentials, self.part.elimination
        information = potentials.information(natural, observed, has_slopes=True)
        found = elimination.conditionals(information)
        with torch.no_grad():
            is_lost = self.part.is_lost(information, elimination.log_roots(found))
        is_none = ~torch.cat(
            [
                torch.cat([each.root.flatten(1), each.offset.flatten(1)], 1)
                for each in found
            ],
            1,
        ).isfinite().all(1)
        if not bool(is_none.any()):
            return found, is_lost
        which = is_none.unsqueeze(1)
        if not bool(is_none.all()):  # what has no value would have no slope either
            first = (~is_none).nonzero()[0]
            natural = torch.where(which, natural[first].detach(), natural)
            information = potentials.information(natural, observed, has_slopes=True)
        _, diagonal = potentials.places.diagonal
        unit = torch.zeros_like(information.precision).index_fill(1, diagonal, 1.0)
        plain = Information(
            torch.where(which, unit, information.precision),
            torch.where(which, 0.0, information.linear),
        )
        return elimination.conditionals(plain), is_lost | is_none


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """Columns given those sampled before each, of all rows."""

    part: Part
    given: Sequence[OfColumns]

    @property
    def log_roots(self) -> Tensor:
        """Log|det| of `to_residual` by columns."""
        return self.part.elimination.log_roots(self.given)

    def to_residual(self, state: Tensor) -> Tensor:
        """Independent standard normals of columns."""
        return self.part.elimination.to_residual(state, self.given)

    def from_residual(self, residual: Tensor) -> Tensor:
        """Columns of standard normals."""
        return self.part.elimination.from_residual(residual, self.given)


def _made(
    density: _Given | SquareRoot, own: Tensor, base: Tensor, is_known: Tensor
) -> tuple[Tensor, Tensor]:
    """Return values, of base points where not known, and their log densities."""
    residual, values = base, own
    if bool(is_known.any()):
        residual = torch.where(is_known, density.to_residual(own), base)
    if not bool(is_known.all()):
        values = torch.where(is_known, own, density.from_residual(residual))
    return values, density.log_roots + standard_normal_terms(residual)


def _factors(model: Model, conditionals: Sequence[Conditional]) -> list[str]:
    """Return the factors of some conditionals, in the order of the graph."""
    factors = {name for each in conditionals for name in each.factors}
    return [node.name for node in model.graph.nodes if node.name in factors]


def _part(
    lowered: LoweredGraph, names: Sequence[str], factors: Sequence[str]
) -> Part | None:
    """Return factors of latents; None where these are not normal together."""
    readers = Readers(lowered.dag, [lowered.nodes[name].slots[0] for name in names])
    if not all(has_linear_mean(lowered.nodes[name], readers) for name in factors):
        return None
    return part_of(lowered, factors, [n for n in lowered.graph.latents if n in names])

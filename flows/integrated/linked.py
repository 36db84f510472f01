r"""This file draws latents that are normal together given the others.

Latents v in each other's Markov blankets, all of whose factors are normal with means
that are linear in v, given kept latents c and data x:

    log ∫ Π factors dv,    q(v | c, x) = Π_i N(v_i | v before i, c, x),

both exact, by eliminating the last one first (`flows.linear_gaussian`). Each component
of the graph that the factors make of them is independent of the others.
"""

from collections.abc import Collection, Sequence
from functools import cached_property

import networkx as nx
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ArgumentError
from ..linear_gaussian.factors import has_linear_mean
from ..linear_gaussian.forms import Readers
from ..linear_gaussian.part import Part, part_of
from ..model.lowered_graph import LoweredGraph
from ..model.model import Model
from ..model.standard_normal import HALF_LOG_TWO_PI
from ..structured_gaussian.elimination import Conditional as Given
from ..structured_gaussian.elimination import Information
from .conditionals import Conditional

__all__ = ["Linked"]

_MOST_NUMBERS = 2**21
"""Of the precisions of rows that are held at once while no gradients are kept."""
_FACTOR = 30
"""Operations that a factor takes for a row, whatever it joins."""


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
    def work(self) -> int:
        """Operations on numbers that a row takes, about, of factors and of cliques."""
        factors = self.part.potentials.factors
        batches = self.part.potentials.places.plan.batches
        return sum(_FACTOR + len(each.columns) ** 2 for each in factors) + sum(
            len(each.own) * each.width**3 for each in batches
        )

    @cached_property
    def conditionals(self) -> tuple[Conditional, ...]:
        """Each latent's, given those before it in sampling order."""
        graph: nx.Graph[str] = nx.Graph()
        graph.add_nodes_from(self._of)
        for name, each in self._of.items():
            graph.add_edges_from((name, n) for n in each.latents if n in self._of)
        found: dict[str, Conditional] = {}
        for component in nx.connected_components(graph):
            own = [self._of[name] for name in component]
            factors = {name for each in own for name in each.factors}
            latents = {name for each in own for name in each.latents} - component
            observed = {name for each in own for name in each.observed}
            for name in component:
                read = latents | self._before[name]
                found[name] = Conditional(
                    name, *map(self._in_order, (factors, read, observed))
                )
        return tuple(found[name] for name in self.part.latents)

    def _in_order(self, names: Collection[str]) -> tuple[str, ...]:
        nodes = self._model.graph.nodes
        return tuple(node.name for node in nodes if node.name in names)

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
        """Return the log of their factors, integrated over them, in nats.

        Args:
            free: Of all latents of the model; columns of these are not looked at.
            observed: Observed values.
        """
        natural, data = self._natural(free, observed)
        found = self.part.log_density(self._model, natural, data)
        is_lost = torch.isnan(found) & ~torch.isnan(free.cpu()).any(-1)
        return torch.where(is_lost, -torch.inf, found).to(free.device)

    def completed(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
        base: Float[Tensor, "row linked"],
        is_known: Bool[Tensor, " linked"],
    ) -> tuple[Float[Tensor, "row linked"], Float[Tensor, "row linked"]]:
        """Return values of these latents, and their log densities, one by one.

        Args:
            free: Of all latents of the model, known ones of these included.
            observed: Observed values.
            base: Standard normal points, of which the others are made.
            is_known: Which are known; with one, all that its conditional reads.
        """
        natural, data = self._natural(free, observed)
        rows = (natural, data, base.double().cpu())
        most = max(1, _MOST_NUMBERS // self.part.num_entries)
        every = len(natural) if torch.is_grad_enabled() else most
        parts = [
            self._completed(own, data, points, is_known.cpu())
            for own, data, points in zip(
                *(torch.split(each, every or 1) for each in rows), strict=True
            )
        ]
        values, terms = (torch.cat(each) for each in zip(*parts, strict=True))
        return values.to(free.device), terms.to(free.device)

    def _completed(
        self, natural: Tensor, observed: Tensor, base: Tensor, is_known: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = natural[:, self.part.columns]
        elimination = self.part.elimination
        given = self._given(natural, observed)
        residual, values = base, own
        if bool(is_known.any()):
            residual = torch.where(is_known, elimination.to_residual(own, given), base)
        if not bool(is_known.all()):
            drawn = elimination.from_residual(residual, given)
            values = torch.where(is_known, own, drawn)
        log_roots = elimination.log_roots(given)
        return values, log_roots - 0.5 * residual.square() - HALF_LOG_TWO_PI

    def _natural(self, free: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        natural, _ = self._model.constrain(free.double().cpu())
        return natural, observed.double().cpu()

    def _given(self, natural: Tensor, observed: Tensor) -> list[Given]:
        """Return conditionals; standard normal ones where there are none."""
        potentials, elimination = self.part.potentials, self.part.elimination
        information = potentials.information(natural, observed, has_slopes=True)
        found = elimination.conditionals(information)
        is_none = ~torch.cat(
            [
                torch.cat([each.root.flatten(1), each.offset.flatten(1)], 1)
                for each in found
            ],
            1,
        ).isfinite().all(1)
        if not bool(is_none.any()):
            return found
        _, diagonal = potentials.places.diagonal
        unit = torch.zeros_like(information.precision).index_fill(1, diagonal, 1.0)
        which = is_none.unsqueeze(1)
        plain = Information(
            torch.where(which, unit, information.precision),
            torch.where(which, 0.0, information.linear),
        )
        return elimination.conditionals(plain)


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

r"""This file approximates factors that read Gaussian latents in any other way.

Such a factor f reads them through few linear forms u, its predictors (a log rate, a
logit, a log scale). Around a place û

    log f(u) ≈ log f(û) + gᵀ(u - û) - 1/2 (u - û)ᵀ P (u - û),

g and P its slopes there and the slopes of these, negative directions of P left out: a
Gaussian potential in the latents. Every factor has predictors of its own, so that one
look at slopes gives those of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..linear_gaussian.forms import LinearForm
from ..linear_gaussian.places import Places
from ..model.dag import Dag
from ..model.lowered_graph import LoweredGraph
from ..model.schedule import Schedule
from ..structured_gaussian.elimination import Information, times
from .predictors import separated

__all__ = ["Sites", "SitesGiven", "sites_of"]


@dataclass(frozen=True, slots=True)
class _Site:
    """A factor of one number of predictors.

    Attributes:
        predictors: As linear forms of the columns.
        inputs: Slots that stand for their values in the term.
        term: Slot of the log of the factor.
    """

    predictors: tuple[LinearForm, ...]
    inputs: tuple[int, ...]
    term: int

    @property
    def columns(self) -> tuple[int, ...]:
        """Numbers of the columns that it joins."""
        return tuple(sorted({c for form in self.predictors for c in form.coefficients}))


@dataclass(frozen=True, eq=False)
class _Group:
    """Sites of one shape, those of the same columns together: a set.

    Attributes:
        coefficients: Places among the numbers, [set, site, predictor, column].
        columns: Numbers of the columns, [set, column].
        inputs: Places among all predictors, [set, site, predictor].
        entries: Of all precisions, where a set's go.
        linear: Of all linear terms, likewise.
    """

    coefficients: Tensor
    columns: Tensor
    inputs: Tensor
    entries: Tensor
    linear: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SitesGiven:
    """Sites given the other latents and the data.

    Attributes:
        sites: The sites.
        sources: Values of all latents and of the data.
        matrices: Coefficients of each group, [row, set, site, predictor, column].
        rests: Of all predictors, [row, predictor].
    """

    sites: "Sites"
    sources: Sequence[Tensor]
    matrices: Sequence[Tensor]
    rests: Tensor

    def rows(self, which: Tensor) -> "SitesGiven":
        """Return those of some rows."""
        sources = [
            each[:, which] if each.shape[1] > 1 else each for each in self.sources
        ]
        matrices = [each[which] for each in self.matrices]
        return SitesGiven(self.sites, sources, matrices, self.rests[which])

    def predictors(
        self, columns: Float[Tensor, "row column"]
    ) -> Float[Tensor, "row predictor"]:
        """Return the predictors at values of the columns."""
        found = self.rests
        for group, matrix in zip(self.sites.groups, self.matrices, strict=True):
            moved = times(matrix, columns[:, group.columns].unsqueeze(-2))
            found = found.index_add(1, group.inputs.flatten(), moved.flatten(1))
        return found

    def log_density(
        self, predictors: Float[Tensor, "row predictor"]
    ) -> Float[Tensor, " row"]:
        """Return the sum of the logs of all factors."""
        sources = [*self.sources, predictors.t().contiguous()]
        (found,) = self.sites.terms.run(
            sources, num_rows=len(predictors), like=predictors
        )
        return found.expand(len(predictors))

    def added(
        self,
        to: Information,
        predictors: Float[Tensor, "row predictor"],
        *,
        is_folded: bool,
    ) -> Information:
        """Return potentials with those of the sites around a place.

        Args:
            to: Of the other factors.
            predictors: The place.
            is_folded: Whether where a factor's log rises faster and faster its
                curvature counts by its size: a step leads on there, and no further
                than it should. If not it is left out.
        """
        slopes, bends = self._derivatives(predictors)
        away = predictors - self.rests
        precision, linear = to.precision, to.linear
        for group, matrix in zip(self.sites.groups, self.matrices, strict=True):
            own = group.inputs
            curved = _fallen(bends[:, own, : own.shape[-1]], is_folded=is_folded)
            pull = slopes[:, own] + times(curved, away[:, own])
            tall = matrix.flatten(2, 3)
            weighed = _product(curved, matrix).flatten(2, 3)
            square = _between(tall, weighed)
            precision = precision.index_add(1, group.entries, square.flatten(1))
            moved = times(tall.mT, pull.flatten(2))
            linear = linear.index_add(1, group.linear, moved.flatten(1))
        return Information(precision, linear)

    def _derivatives(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes in all predictors, and their changes with each of a site's."""
        with torch.enable_grad():
            leaf = at.detach().requires_grad_()
            slopes = _slopes(self.log_density(leaf).sum(), leaf, create_graph=True)
            bends = []
            for turn in self.sites.turns:
                bends.append(_slopes(slopes[:, turn].sum(), leaf))
        return slopes.detach().nan_to_num(0.0, 0.0, 0.0), torch.stack(bends, -1)


def _slopes(total: Tensor, leaf: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return slopes, 0 where a function is made of steps alone."""
    if not total.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(
        total,
        leaf,
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return found if create_graph else found.nan_to_num(0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Sites:
    """Factors that are no normals of linear means.

    Attributes:
        dag: Has the slots.
        sources: Slots of what is given: all latents, and the observed values.
        sites: The factors.
        places: Where the numbers of columns are.
    """

    dag: Dag
    sources: tuple[tuple[int, ...], ...]
    sites: tuple[_Site, ...]
    places: Places

    def given(
        self,
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, "rows observed"],
    ) -> SitesGiven:
        """Return them given other latents and data.

        Args:
            latents: All latents; the columns' own do not matter.
            observed: Data, one row for all or one for each.
        """
        num = len(latents)
        sources = [latents.t().contiguous(), observed.t().contiguous()]
        (numbers,) = self._forms.run(sources, num_rows=num, like=latents)
        numbers = numbers.expand(-1, num).t().contiguous()
        matrices = [numbers[:, group.coefficients] for group in self.groups]
        return SitesGiven(self, sources, matrices, numbers[:, self._rests])

    @cached_property
    def terms(self) -> Schedule:
        """Computes the sum of the logs of all factors."""
        inputs = tuple(slot for site in self.sites for slot in site.inputs)
        terms = tuple(site.term for site in self.sites)
        sources = (*self.sources, inputs)
        return Schedule.of(self.dag, sources, [terms], sums=frozenset({0}))

    @cached_property
    def turns(self) -> list[Tensor]:
        """Whether each predictor has its turn: one of each site at a time."""
        sizes = [len(site.inputs) for site in self.sites]
        number = torch.tensor([n for size in sizes for n in range(size)])
        return [number == turn for turn in range(max(sizes))]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        zero = self.dag.constant(0.0)
        forms = [form for site in self.sites for form in site.predictors]
        slots = [slot for form in forms for slot in form.coefficients.values()]
        slots += [zero, *(form.rest for form in forms)]
        return {slot: place for place, slot in enumerate(dict.fromkeys(slots))}

    @cached_property
    def _forms(self) -> Schedule:
        return Schedule.of(self.dag, self.sources, [tuple(self._numbers)])

    @cached_property
    def _rests(self) -> Tensor:
        forms = [form for site in self.sites for form in site.predictors]
        return torch.tensor([self._numbers[form.rest] for form in forms])

    @property
    def num_coefficients(self) -> int:
        """How many numbers all matrices hold, for one row."""
        return sum(group.coefficients.numel() for group in self.groups)

    @cached_property
    def groups(self) -> list[_Group]:
        """Sites of each shape."""
        sets: dict[tuple[int, tuple[int, ...]], list[tuple[_Site, int]]] = {}
        start = 0
        for site in self.sites:
            key = len(site.inputs), site.columns
            sets.setdefault(key, []).append((site, start))
            start += len(site.inputs)
        shapes: dict[tuple[int, int, int], list[list[tuple[_Site, int]]]] = {}
        for (size, columns), own in sets.items():
            shapes.setdefault((size, len(columns), len(own)), []).append(own)
        return [self._group(each) for each in shapes.values()]

    def _group(self, sets: Sequence[Sequence[tuple[_Site, int]]]) -> _Group:
        zero, number = self.dag.constant(0.0), self._numbers
        coefficients, columns, inputs, entries, linear = [], [], [], [], []
        for sites in sets:
            shared = sites[0][0].columns
            columns.append(shared)
            coefficients.append(
                [
                    [
                        [number[form.coefficients.get(c, zero)] for c in shared]
                        for form in site.predictors
                    ]
                    for site, _ in sites
                ]
            )
            inputs.append(
                [range(start, start + len(site.inputs)) for site, start in sites]
            )
            own = self.places.of(shared)
            entries += own[0]
            linear += own[1]
        found: list[Any] = [coefficients, columns, inputs, entries, linear]
        return _Group(*map(torch.tensor, found))


def sites_of(
    lowered: LoweredGraph,
    terms: Sequence[int],
    parts: Sequence[tuple[int, ...]],
    predictors: Sequence[tuple[LinearForm, ...]],
    places: Places,
) -> Sites:
    """Return factors, each of predictors of its own.

    Args:
        lowered: The graph.
        terms: Slots of the logs of the factors.
        parts: Slots of their predictors.
        predictors: The same as linear forms.
        places: Where the numbers of columns are.
    """
    dag = lowered.dag
    found = []
    for term, own, forms in zip(terms, parts, predictors, strict=True):
        inputs = [dag.variable(("predictor", term, n)) for n in range(len(own))]
        apart = separated(dag, term, dict(zip(own, inputs, strict=True)))
        found.append(_Site(forms, tuple(inputs), apart))
    return Sites(dag, lowered.slots, tuple(found), places)


def _fallen(bends: Tensor, *, is_folded: bool) -> Tensor:
    """Return -bends, symmetric, directions in which it is negative turned or left out.

    Args:
        bends: Second derivatives.
        is_folded: Whether such directions get the sizes of their curvatures, not 0.
    """
    falls = -0.5 * (bends + bends.mT)
    if bends.shape[-1] == 1:
        return falls.abs() if is_folded else falls.clamp(min=0.0)
    values, vectors = torch.linalg.eigh(falls)
    sizes = values.abs() if is_folded else values.clamp(min=0.0)
    found: Tensor = (vectors * sizes.unsqueeze(-2)) @ vectors.mT
    return found


def _product(curved: Tensor, matrix: Tensor) -> Tensor:
    """Return C M; without products of small matrices, which are slow."""
    return curved * matrix if matrix.shape[-2] == 1 else curved @ matrix


def _between(tall: Tensor, weighed: Tensor) -> Tensor:
    """Return M^T W; likewise."""
    return tall.mT * weighed if tall.shape[-2] == 1 else tall.mT @ weighed

"""This file maps the latents that are not summed out to free coordinates and back.

Where the support of a continuous latent depends on a discrete one, its free coordinates
cover the union: outside the support of a configuration its density is 0. A sampled
latent of value k has the free coordinate k + 1/2; all from k to below k + 1 are k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from daphne_bridge.graph.expression import (
    Call,
    Expression,
    ExpressionTable,
    Value,
    free_names,
)
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.graph.nodes import families_of

from ..model.layout import Layout
from ..model.lowered import Lowered
from ..model.model import Model
from ..model.shapes import Free, Latents, LogDet

__all__ = ["KeptLatents"]


@dataclass(frozen=True, eq=False)
class KeptLatents:
    """The continuous and the sampled latents of a model.

    Attributes:
        model: With all its latents.
        lowered: The specialised forms of every latent that is not summed out.
        sampled: Names of the discrete latents among them.
    """

    model: Model
    lowered: Mapping[str, tuple[Lowered, ...]]
    sampled: tuple[str, ...]

    @cached_property
    def layout(self) -> Layout:
        """Their columns, and those of the observed nodes."""
        continuous = {v.name: v.free_size for v in self._continuous.layout.latents}
        counted = dict.fromkeys(self.sampled, 1)
        return self.model.layout.keeping(continuous | counted)

    @cached_property
    def _continuous(self) -> Model:
        """The continuous latents with supports that cover every configuration."""
        names = self.lowered.keys() - {*self.sampled}
        nodes = [n for n in self.model.graph.nodes if n.name in names]
        graph = Graph(
            tuple(self._covering(node) for node in nodes),
            source=self.model.graph.source,
        )
        return Model.from_graph(graph, dtype=self.model.dtype, device=self.model.device)

    def _covering(self, node: Node) -> Node:
        """Return a latent whose distribution has the union of its supports."""
        forms = self.lowered[node.name]
        found = _covering([form.node.distribution for form in forms], forms[0].shape)
        if not set(self.sampled).isdisjoint(free_names(found)):
            found = _standard("real", forms[0].shape)  # bounds that are sampled
        return replace(node, distribution=found, parents=free_names(found))

    # -------------------------------------------------------------- maps

    def constrain(self, free: Free) -> tuple[Latents, LogDet]:
        """Return the natural values of free coordinates, and log|det dz/df|."""
        if not self.sampled:
            return self._continuous.constrain(free)
        values, log_det = self._continuous.constrain(free[..., self._free[0]])
        counted = free[..., self._free[1]].floor()
        return self._in_order(self._natural, values, counted), log_det

    def constrain_terms(self, free: Free) -> Float[Tensor, "*batch node"]:
        """Return the summands of log|det dz/df|, one per continuous latent."""
        return self._continuous.constrain_terms(free[..., self._free[0]])

    def unconstrain(self, latents: Latents) -> tuple[Free, LogDet]:
        """Return the free coordinates of natural values, and log|det dz/df|."""
        if not self.sampled:
            return self._continuous.unconstrain(latents)
        free, log_det = self._continuous.unconstrain(latents[..., self._natural[0]])
        counted = latents[..., self._natural[1]] + 0.5
        return self._in_order(self._free, free, counted), log_det

    def at_edge(self, free: Free) -> Bool[Tensor, "*batch free"]:
        """Return where a double's digits end: values beyond are all the same."""
        found = self._continuous.at_edge(free[..., self._free[0]])
        counted = torch.zeros_like(free[..., self._free[1]], dtype=torch.bool)
        return self._in_order(self._free, found, counted)

    @staticmethod
    def _in_order(
        columns: tuple[Tensor, Tensor], continuous: Tensor, counted: Tensor
    ) -> Tensor:
        return torch.cat([continuous, counted], -1)[..., torch.cat(columns).argsort()]

    @cached_property
    def _natural(self) -> tuple[Tensor, Tensor]:
        """Natural columns of the continuous latents, and of the sampled ones."""
        return self._split([v.columns for v in self.layout.latents])

    @cached_property
    def _free(self) -> tuple[Tensor, Tensor]:
        """Free columns of the continuous latents, and of the sampled ones."""
        return self._split([v.free_columns for v in self.layout.latents])

    def _split(self, columns: Sequence[range]) -> tuple[Tensor, Tensor]:
        found: tuple[list[int], list[int]] = ([], [])
        for variable, own in zip(self.layout.latents, columns, strict=True):
            found[variable.name in self.sampled].extend(own)
        return torch.tensor(found[0]).long(), torch.tensor(found[1]).long()


def _covering(
    distributions: Sequence[Expression], shape: tuple[int, ...]
) -> Expression:
    """Return a distribution whose support is the union of those of others."""
    families = {f.name: f for d in distributions for f in families_of(d)}
    supports = {family.support for family in families.values()}
    calls = [d for d in distributions if isinstance(d, Call) and d.head in families]
    if supports == {"interval"} and len(calls) == len(distributions):
        low, high = zip(*(call.arguments[-2:] for call in calls), strict=True)
        return Call("uniform-continuous", (_extreme("min", low), _extreme("max", high)))
    if len(supports) > 1 or "interval" in supports:
        has_zero = supports <= {"positive", "nonnegative", "unit interval"}
        supports = {"positive" if has_zero else "real"}
    return _standard(supports.pop(), shape)


def _standard(support: str, shape: tuple[int, ...]) -> Expression:
    """Return some distribution with this support."""
    table = ExpressionTable()
    size = shape[0] if shape else 0
    ones, zeros = (1.0,) * size, (0.0,) * size
    identity = tuple(
        tuple(float(row == column) for column in range(size)) for row in range(size)
    )
    standard: Mapping[str, tuple[str, Sequence[Value]]] = {
        "real": ("normal", (0.0, 1.0)),
        "positive": ("gamma", (1.0, 1.0)),
        "nonnegative": ("exponential", (1.0,)),
        "unit interval": ("beta", (1.0, 1.0)),
        "simplex": ("dirichlet", (ones,)),
        "real vector": ("mvn", (zeros, identity)),
        "positive definite matrix": ("wishart", (float(size), identity)),
    }
    head, parameters = standard[support]
    return table.call(head, [table.constant(value) for value in parameters])


def _extreme(name: str, bounds: Sequence[Expression]) -> Expression:
    different = tuple({id(bound): bound for bound in bounds}.values())
    return different[0] if len(different) == 1 else Call(name, different)

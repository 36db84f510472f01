"""This file parts a model into parameters that rows of data share, and the rest.

    p(θ) Π_n p(z_n, x_n | θ):

θ are latents that depend on no others but θ; each row has latents z of its own, and the
data x of one run of the program. Of the rest, θ are observed nodes: what answers any
data then answers any parameters as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from daphne_bridge.errors import GraphError
from daphne_bridge.graph.document import GraphDocument, NodeNames
from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.nearest import or_nearest

from ..errors import ArgumentError, ModelError, Problem
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import FlowTarget, target_of
from ..model.capabilities import listed
from ..model.layout import Variable
from ..model.model import Model
from .documents import observing, only, with_constants

__all__ = ["PartedModel", "prior_draws"]

_DRAWS = 1000
_WANTED = "a latent that depends on no others but parameters"


@dataclass(frozen=True, eq=False)
class PartedModel:
    """A model whose parameters are told from what belongs to a row of data.

    Attributes:
        model: The whole model.
        prior: Of the parameters alone.
        rows: The model in which the parameters are observed.
    """

    model: Model
    prior: Model
    rows: Model

    @classmethod
    def of(cls, model: Model, parameters: Sequence[str]) -> "PartedModel":
        """Return the parts of a model.

        Args:
            model: The whole model.
            parameters: Latents by the document's name, the program's, or the common
                name `w` of `w[0]`, `w[1]`, ...

        Raises:
            ArgumentError: With everything that is wrong with the names.
            ModelError: If the prior draws no parameters with a meaning.
        """
        names = _resolved(model, parameters)
        document = model.graph.document
        assert document is not None  # noqa: S101 - every checked graph has one
        prior = _model(model, only(document, names))
        drawn = prior_draws(prior, _DRAWS, torch.Generator().manual_seed(0))
        if not len(drawn):
            what = "the prior draws no parameters with a meaning"
            raise ModelError.at(model.graph.source, what)
        middle = (drawn - drawn.median(0).values).abs().sum(1).argmin()
        values = _by_name(prior.layout.latents, drawn[middle])
        return cls(model, prior, _model(model, observing(document, values)))

    @cached_property
    def target(self) -> FlowTarget:
        """The rows' model, discrete latents summed out; no meaning has no mass.

        Raises:
            ModelError: If they cannot be summed out.
        """
        return target_of(self.rows).forgiving()

    @property
    def labels(self) -> tuple[str, ...]:
        """What each number among the parameters is called."""
        return tuple(n for v in self.prior.layout.latents for n in v.column_names)

    @cached_property
    def _order(self) -> list[int]:
        """Which of data, and parameters after them, each observed column of rows is."""
        return self._places(self.rows, self.prior)

    @cached_property
    def _complete(self) -> tuple[Model, list[int]] | None:
        """The model whose only latents are the parameters; None if there is none.

        With which of data, and latents of a row after them, its observed columns are.
        """
        if isinstance(self.target, CollapsedModel):
            return None
        generator = torch.Generator().manual_seed(0)
        drawn = self.target.sample_latents(_DRAWS, generator=generator)
        drawn = drawn[torch.isfinite(drawn).all(1)]
        document = self.model.graph.document
        if not len(drawn) or document is None:
            return None
        values = _by_name(self.rows.layout.latents, drawn[0])
        complete = _model(self.model, observing(document, values)).forgiving()
        return complete, self._places(complete, self.rows)

    def _places(self, whole: Model, latent: Model) -> list[int]:
        """Which of data, and latents after them, each observed column of a model is."""
        first = self.model.layout.observed_dim
        start = {v.name: v.start for v in self.model.layout.observed}
        start |= {v.name: first + v.start for v in latent.layout.latents}
        return [
            start[v.name] + column
            for v in whole.layout.observed
            for column in range(v.size)
        ]

    def observed(
        self,
        values: Float[Tensor, "*batch parameter"],
        data: Float[Tensor, "*batch2 datum"],
    ) -> Float[Tensor, "*batch3 observed"]:
        """Return the observed values of rows: parameters and data in their columns.

        Args:
            values: Of the parameters.
            data: In the columns of the whole model.
        """
        return _joined(data, values)[..., self._order]

    def log_joint(
        self,
        values: Float[Tensor, "*batch parameter"],
        latents: Float[Tensor, "*batch2 latent"],
        data: Float[Tensor, "*batch3 datum"],
    ) -> Float[Tensor, "*batch4"]:
        """Return log p(latents, data | parameters) of rows; carries gradients.

        One row of parameters is not repeated for each row of latents, where these are
        drawn and not summed out.
        """
        none = values.new_zeros(0)
        prior = self.prior.log_joint(values, none)
        if values.dim() > 1 or self._complete is None:
            return self.target.log_joint(latents, self.observed(values, data)) - prior
        complete, order = self._complete
        return complete.log_joint(values, _joined(data, latents)[..., order]) - prior

    def learned(self, values: Float[Tensor, " parameter"]) -> Model:
        """Return the model in which the parameters are constants."""
        document = self.model.graph.document
        assert document is not None  # noqa: S101 - every checked graph has one
        constants = _by_name(self.prior.layout.latents, values)
        return _model(self.model, with_constants(document, constants))


def _joined(
    data: Float[Tensor, "*batch datum"], others: Float[Tensor, "*batch2 other"]
) -> Float[Tensor, "*batch3 both"]:
    """Return the columns of data, and others after them."""
    batch = np.broadcast_shapes(data.shape[:-1], others.shape[:-1])
    return torch.cat([data.expand(*batch, -1), others.expand(*batch, -1)], -1)


def prior_draws(
    prior: Model, num: int, generator: Generator
) -> Float[Tensor, "draw parameter"]:
    """Return those of some draws of parameters that have a meaning."""
    drawn = prior.forgiving().sample_latents(num, generator=generator)
    return drawn[torch.isfinite(drawn).all(1)]


def _model(model: Model, document: GraphDocument) -> Model:
    labels = {n: model.graph.labels[n] for n in document.vertices}
    graph = Graph.from_document(document, NodeNames(labels))
    return Model.from_graph(graph, dtype=model.dtype, device=model.device)


def _by_name(
    variables: Sequence[Variable], values: Float[Tensor, " parameter"]
) -> dict[str, float | list[float]]:
    """Return numbers and nested lists of them by name of a node."""
    return {
        v.name: values[v.start : v.stop].detach().reshape(v.shape).tolist()
        for v in variables
    }


def _resolved(model: Model, parameters: Sequence[str]) -> frozenset[str]:
    """Return the names of the nodes that are called parameters.

    Raises:
        ArgumentError: With everything that is wrong with them.
    """
    graph = model.graph
    if not parameters:
        what = "none is named, so there is nothing to learn"
        raise ArgumentError.at("parameters", what, _WANTED)
    if not graph.observed:
        what = "the program observes nothing"
        raise ArgumentError.at(graph.source, what, "an observe")
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for name in parameters:
        variables = model.layout.latents_named(name)
        found |= {variable.name: name for variable in variables}
        if not variables:
            problems.append(_unknown(graph, name))
    for node, name in found.items():
        others = [graph.labels[p] for p in graph.parents(node) if p not in found]
        if others:
            what = f"it depends on {listed(others)}, so that it belongs to a row"
            problems.append(Problem(f"parameter {name}", what, _WANTED))
        if graph.node(node).is_discrete:
            what = "it is discrete, so that there is no slope to climb"
            problems.append(Problem(f"parameter {name}", what, "a continuous latent"))
    if problems:
        raise ArgumentError(*dict.fromkeys(problems))
    return frozenset(found)


def _unknown(graph: Graph, name: str) -> Problem:
    try:
        is_known = graph.node(graph.resolve(name)).is_observed
    except GraphError:
        is_known = False
    if is_known:
        return Problem(f"parameter {name}", "it is observed, no latent", _WANTED)
    top = [graph.labels[each] for each in graph.latents if not graph.parents(each)]
    known = {label.partition("[")[0] for label in top} | set(top)
    wanted = or_nearest(f"{_WANTED}: {listed(top)}", name, known)
    return Problem(f"parameter {name}", "no latent has this name", wanted)

"""This file draws weighted particles of one data set, here or in other processes.

Equal seeds give equal particles, whoever draws them.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.document import NodeNames, format_document, parse_document
from daphne_bridge.graph.graph import Graph

from ..errors import ArgumentError, FlowsError
from ..flow.protocol import Flow
from ..inference.cluster import cluster_importance_sample
from ..inference.columns import latent_columns
from ..inference.importance import (
    ImportanceReport,
    importance_sample,
    unweighted_sample,
)
from ..inference.parallel import Sampler, parallel_importance_sample
from ..inference.particle_store import ParticleStore
from ..inference.particles import Particles
from ..inference.proposal import PriorProposal, Proposal
from ..inference.smc.result import run_seed
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import FlowTarget, target_of
from ..model.model import Model
from ..proposals.flow import proposal_of
from ..storage.artifact import Artifact
from .targets import Target

__all__ = ["Drawing", "Trained", "completed", "drawn", "num_without_meaning"]

_FIRST = 200
"""So many particles are looked at for values without meaning."""
_COMPLETING = 1_000_003
"""Added to the seed of draws of what is left out of a target, apart from all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained flow.

    Attributes:
        artifact: From which other processes make it.
        flow: In the model's columns, for weights.
    """

    artifact: Artifact
    flow: Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How particles are drawn.

    Attributes:
        num_particles: How many; with `target_ess` the most.
        seed: Decides every draw.
        proposal: What they are drawn from: flow, prior or mixture.
        mixture_weight: Share of the prior in the mixture.
        target_ess: The effective sample size that is enough; None: all are drawn.
        num_workers: Processes that draw.
        cluster: Address of a Dask scheduler whose workers draw instead.
        weighted: Whether they are weighted; if not, they are the flow's own draws.
    """

    num_particles: int = 10_000
    seed: int = 0
    proposal: str = "flow"
    mixture_weight: float = 0.1
    target_ess: float | None = None
    num_workers: int = 1
    cluster: str | None = None
    weighted: bool = True

    def of(self, trained: Trained | None, model: FlowTarget) -> Proposal:
        """Return what particles are drawn from.

        Raises:
            ArgumentError: If that needs a flow and there is none.
        """
        if trained is not None:
            return proposal_of(
                self.proposal, trained.flow, model, mixture_weight=self.mixture_weight
            )
        if self.proposal != "prior" or not self.weighted:
            raise ArgumentError.at(
                f"proposal {self.proposal}",
                "draws of a flow need a trained one",
                "an artifact, or the proposal prior",
            )
        return PriorProposal(model)


def completed(
    target: Target,
    particles: Particles,
    observed: Float[Tensor, " observed"],
    seed: int,
) -> Particles:
    """Return particles of a target, what is left out of it drawn given the rest.

    Args:
        target: What the particles are of.
        particles: Weighted rows of its latents.
        observed: The data.
        seed: Of all draws of the particles.
    """
    if isinstance(target, Model):
        return particles
    generator = torch.Generator().manual_seed(run_seed(seed, _COMPLETING))
    alive = particles.log_weights > -math.inf
    layout = target.model.layout
    full = particles.latents.new_zeros(particles.num_particles, layout.latent_dim)
    if bool(alive.any()):
        full[alive] = target.complete(
            particles.latents[alive], observed, generator=generator
        )
    return Particles.from_draws(full, particles.log_weights, latent_columns(layout))


def num_without_meaning(
    target: Target,
    particles: Particles,
    observed: Float[Tensor, " observed"],
) -> int:
    """Return how many particles have no meaning.

    Those weigh 0, but where discrete latents are summed out: there some values of these
    have none, which are left out of the sum. The first rows tell whether there are any.
    """
    weighs = particles.log_weights > -math.inf
    rows = particles.latents[~weighs]
    if isinstance(target, CollapsedModel):
        first = particles.latents[weighs][:_FIRST]
        if len(first) and not bool(target.has_meaning(first, observed).all()):
            rows = particles.latents
    return int((~target.has_meaning(rows, observed)).sum()) if len(rows) else 0


def drawn(
    model: FlowTarget,
    trained: Trained | None,
    observed: Float[Tensor, " observed"],
    how: Drawing,
    *,
    scratch: Path | None = None,
    on_report: Callable[[ImportanceReport], None] | None = None,
) -> Particles:
    """Return particles of one data set.

    Args:
        model: The target.
        trained: The flow, if there is one.
        observed: The data.
        how: They are drawn.
        scratch: Folder for latents that memory should not hold.
        on_report: Called with every report.

    Raises:
        InferenceError: If the weights are without meaning, or workers keep dying.
    """
    store = ParticleStore(
        how.num_particles,
        latent_columns(model.layout),
        scratch or Path(tempfile.gettempdir()),
    )
    for report in _reports(model, trained, observed, how):
        store.add(report.particles)
        if on_report is not None:
            on_report(report)
        if how.target_ess is not None and report.totals.ess >= how.target_ess:
            break
    return store.particles()


def _reports(
    model: FlowTarget,
    trained: Trained | None,
    observed: Tensor,
    how: Drawing,
) -> Iterator[ImportanceReport]:
    num, seed, layout = how.num_particles, how.seed, model.layout
    if how.cluster is None and how.num_workers == 1:
        proposal = how.of(trained, model)
        if not how.weighted:
            return unweighted_sample(proposal, layout, observed, num, seed=seed)
        return importance_sample(model, proposal, observed, num, seed=seed)
    artifact = trained.artifact if trained else None
    make = _elsewhere(model.graph, artifact, observed.tolist(), how)
    if how.cluster is not None:
        return cluster_importance_sample(
            make, layout, num, seed=seed, address=how.cluster
        )
    return parallel_importance_sample(
        make, layout, num, seed=seed, num_workers=how.num_workers
    )


def _elsewhere(
    graph: Graph, artifact: Artifact | None, observed: list[float], how: Drawing
) -> Callable[[], Sampler]:
    """Return what makes a sampler in another process.

    The document travels as text: a graph of deep expressions cannot.

    Raises:
        FlowsError: If the graph was not made of a document.
    """
    if graph.document is None:
        raise FlowsError.at(
            graph.source,
            "a graph that was made by hand does not travel to other processes",
            "a graph of a document, or one worker",
        )
    text = format_document(graph.document)
    return partial(_sampler, text, NodeNames(graph.labels), artifact, observed, how)


def _sampler(
    text: str,
    names: NodeNames,
    artifact: Artifact | None,
    observed: list[float],
    how: Drawing,
) -> Sampler:
    graph = Graph.from_document(parse_document(text), names)
    made = Model.from_graph(graph)
    target = (
        target_of(made, may_sample=True)
        if artifact is None
        else artifact.target_for(made)
    )
    model = target.forgiving()  # as in this process
    trained = None
    if artifact is not None:
        flow = artifact.flow_for(graph, model.layout, weighted=how.weighted)
        trained = Trained(artifact, flow)
    data = torch.tensor(observed, dtype=model.dtype, device=model.device)
    return Sampler(model, how.of(trained, model), data)

"""This file bends a flow to one data set.

1. Weighted particles of the posterior, as `infer` gets them at these data.
2. A flow: the trained one where its draws carry enough weight here; else a new one
   that reads no data, its normalisation fitted to the particles, as a posterior is far
   narrower than what an amortised flow was normalised for.
3. Training on both divergences between flow and posterior (`ParticleTarget`): the
   forward KL on the particles, and by its path gradient the reverse KL on the flow's
   own draws.

The result is a proposal again, whose weights are exact in the limit, for other data
too. A mixed model's flow is bent to the posterior of its continuous latents.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError, InferenceError
from ..flow.building import (
    InverseLike,
    build_structure,
    inverse_of,
    structure_at,
)
from ..flow.kinds import build_flow, is_solved, kind_of, solved_with
from ..flow.protocol import Flow
from ..flow.structure import Structure
from ..heads.flow import HeadedFlow
from ..inference.cautions import cautions
from ..inference.importance import importance_particles
from ..inference.pareto import pareto_k_hat
from ..integrated.flow import CompletedFlow
from ..integrated.target import IntegratedModel
from ..marginal.target import FlowTarget, target_of
from ..model.capabilities import listed
from ..model.model import Model
from ..proposals.flow import FlowProposal
from ..storage.artifact import Artifact
from ..storage.json_values import finite_or_none
from ..training.config import TrainingConfig, nuisance_counts
from ..training.loop import fit
from ..training.particle_target import ParticleTarget
from ..training.state import Report
from .answer import Inference
from .clock import Clock
from .doubts import unexplained
from .edges import edge_doubts
from .inference import infer
from .material import check_trainable, nothing_to_train
from .settings import seconds_of

__all__ = ["REFINING", "refinement"]

REFINING = TrainingConfig(
    integrate="none",
    normalisation_draws=10_000,
    learning_rate=5e-3,
    converged_nats=0.01,
)
"""Settings that suit one data set."""

_HELD_OUT = 0.15
_INFER_SHARE = 0.5
_LEAST_SECONDS = 1.0
_CHECK_DRAWS = 10_000


def refinement(
    model: Model,
    observed: Float[Tensor, " observed"],
    flow: Flow | None,
    *,
    budget: str | float,
    config: TrainingConfig,
    seed: int,
    engine: str,
    on_progress: Callable[[float, str], None] | None,
    on_report: Callable[[Report], None] | None,
    on_compile: Callable[[], None] | None,
) -> Artifact:
    """Return the artifact of a flow that is bent to one data set.

    Args:
        model: With a continuous latent and data.
        observed: The data.
        flow: A trained flow in the model's columns, for weights; None: from nothing.
        budget: Most seconds by the wall clock, or a duration such as `2m`.
        config: Of training; a trained flow keeps its kind and shape.
        seed: Decides every draw.
        engine: What solves the flow in training.
        on_progress: Called while particles are made.
        on_report: Called with every report of training.
        on_compile: Called before a kernel is compiled, which takes a while.

    Raises:
        FlowsError: If the model cannot be trained for, or no particle has weight.
    """
    check_trainable(model)
    if isinstance(flow, HeadedFlow):
        raise ArgumentError.at(
            "refine",
            "a flow with heads of discrete latents is not bent to one data set",
            "a flow of continuous latents, or `daphne-flows infer`",
        )
    target: FlowTarget | IntegratedModel = target_of(model)
    if not target.layout.latents:
        raise nothing_to_train(model)
    nuisance_counts(config.augment, target.layout)
    clock = Clock(seconds_of(budget))
    answer = infer(
        model,
        observed,
        flow=None if flow is None else FlowProposal(flow, target_of(model)),
        budget=_INFER_SHARE * clock.seconds,
        seed=seed,
        on_progress=on_progress,
    )
    if answer.particles.totals.log_sum == -math.inf:
        what = "no draw of the model explains the data, so there is no posterior"
        raise InferenceError.at(
            model.graph.source,
            what,
            "data that the model can draw",
            listed(unexplained(model, observed, seed)),
        )
    if flow is not None:
        config = replace(config, kind=flow.kind, flow=flow.config)
    config = replace(config, budget_seconds=max(clock.left, _LEAST_SECONDS))
    is_good = answer.method == "flow"
    if is_good and isinstance(flow, CompletedFlow):
        target = flow.target
        flow = flow.inner
    bent = _Bending(target.forgiving(), observed, answer, config, seed)
    found = bent.copied(flow) if flow is not None and is_good else bent.new()
    solved = solved_with(found, engine, on_compile=on_compile)
    metrics = bent.train(solved, is_trained=is_good, on_report=on_report)
    return Artifact.from_flow(
        found,
        model.graph,
        bent.target.layout,
        seed=seed,
        config=config.as_mapping(),
        metrics=metrics,
        data=observed,
        inverse=bent.inverse,
        integrated=target.integrated if isinstance(target, IntegratedModel) else (),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Bending:
    """A posterior's particles, and the settings of a flow that is bent to it."""

    target: FlowTarget | IntegratedModel
    observed: Float[Tensor, " observed"]
    answer: Inference
    config: TrainingConfig
    seed: int

    @property
    def inverse(self) -> InverseLike:
        """The faithful inverse over the latents that the flow is of."""
        return inverse_of(self.target.graph, self.target.layout)

    def new(self) -> Flow:
        """Return a flow of these data alone, not yet trained."""
        shape, kind = self.config.flow, self.config.kind
        return build_flow(self._structure(), shape, kind=kind, seed=self.seed)

    def _structure(self) -> Structure:
        layout = self.target.layout
        counts = nuisance_counts(self.config.augment, layout)
        of_kind = kind_of(self.config.kind).structure
        if of_kind is not None:
            edges = build_structure(self.inverse, layout, counts)
            return of_kind(edges, self.target.graph, layout, self.observed)
        particles, _ = self._particles()
        generator = torch.Generator().manual_seed(self.seed)
        draws = particles.sample(self.config.normalisation_draws, generator=generator)
        free = self.target.unconstrain(draws.latents)[0]
        return structure_at(self.inverse, layout, free, self.observed, counts)

    def copied(self, flow: Flow) -> Flow:
        """Return a copy of a trained flow that training may change."""
        copy = build_flow(flow.structure, flow.config, kind=flow.kind)
        copy.load_state_dict(flow.state_dict())
        return copy

    def train(
        self,
        flow: Flow,
        *,
        is_trained: bool,
        on_report: Callable[[Report], None] | None,
    ) -> dict[str, Any]:
        """Train a flow in place, and return what was measured."""
        particles, held_out = self._particles()
        run = fit(
            particles,
            flow,
            self.config,
            seed=self.seed,
            held_out=held_out,
            is_trained=is_trained,
        )
        for report in run:
            if on_report is not None:
                on_report(report)
        flow.load_state_dict(run.best_state_dict())
        values = run.state().values
        return {
            "best_j": values["best"],
            "iterations": values["iteration"],
            "seconds": values["seconds"],
            **({"solver_steps": values["num_steps"]} if is_solved(flow) else {}),
            "status": values["status"],
            "particles": self.answer.method,
            "begun_from": "the trained flow" if is_trained else "nothing",
            **self._worth(flow),
        }

    def _particles(self) -> tuple[ParticleTarget, ParticleTarget]:
        """Return a target with most of the particles, and one with the others."""
        layout, target = self.answer.model.layout, self.target
        own = [layout.variable(v.name) for v in target.layout.latents]
        columns = [c for v in own for c in v.columns]
        weights = self.answer.particles.normalized_weights
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(weights), generator=generator)
        order = order[weights[order] > 0.0]
        cut = max(1, round(_HELD_OUT * len(order)))
        latents = self.answer.particles.latents[:, columns]
        held_out, kept = order[:cut], order[cut:] if len(order) > 1 else order
        return (
            ParticleTarget(target, latents[kept], weights[kept], self.observed),
            ParticleTarget(target, latents[held_out], weights[held_out], self.observed),
        )

    def _worth(self, flow: Flow) -> dict[str, Any]:
        """Return what fresh draws of a flow weigh at these data."""
        target = self.target
        if isinstance(target, IntegratedModel):
            flow, target = CompletedFlow(flow, target), target.model
        proposal = FlowProposal(flow, target)
        drawn = importance_particles(
            target, proposal, self.observed, _CHECK_DRAWS, seed=self.seed
        )
        totals, k_hat = drawn.totals, pareto_k_hat(drawn.log_weights)
        missed = edge_doubts(target, self.observed, drawn, seed=self.seed)
        weak = (*missed, *cautions(totals, k_hat))
        doubts = () if self.answer.is_trusted else self.answer.cautions
        return {
            "ess_fraction": totals.ess_fraction,
            "k_hat": finite_or_none(k_hat),
            "log_evidence": totals.log_evidence,
            "log_evidence_standard_error": totals.log_evidence_standard_error,
            "ok": not weak and not doubts,
            "cautions": [str(each) for each in (*weak, *doubts)],
        }

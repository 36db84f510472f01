"""This file carries particles to the posterior of one data set, in many small steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..inference.cautions import Caution
from ..inference.proposal import PriorProposal, Proposal
from ..inference.smc.annealing import AnnealingReport, annealed_smc
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.coordinates import FreeSpace
from ..inference.smc.edges import EdgeMoves
from ..inference.smc.forgetting import move_cautions
from ..inference.smc.moves import Hamiltonian
from ..inference.smc.observes import SmcReport, sequential_smc
from ..inference.smc.result import SmcResult, merge_runs, run_seed
from ..inference.smc.sequence import ObserveSequence, Sequence
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import FlowTarget
from ..model.capabilities import listed
from ..proposals.flow import FlowProposal
from ..proposals.flow_sequence import FlowSequence
from ..proposals.prior_sequence import PriorSequence
from .arguments import seed_of
from .doubts import lost_on_the_way
from .edges import held_columns, tempered_edge_doubts
from .flow_space import space_of
from .sampling import Drawing, completed
from .source import Data, Source, row_of

__all__ = ["METHODS", "smc"]

METHODS = ("annealed", "sequential")
"""Temper the weights, or draw and weigh latent by latent."""


def smc(
    source: Source,
    observed: Data = None,
    num_particles: int = 1000,
    *,
    num_runs: int = 1,
    seed: int = 0,
    method: str = "annealed",
    proposal: str = "flow",
    mixture_weight: float = 0.1,
    config: AnnealingConfig | None = None,
    on_report: Callable[[int, SmcReport | AnnealingReport], None] | None = None,
) -> tuple[SmcResult, tuple[Caution, ...], tuple[Caution, ...]]:
    """Return the merged result of independent runs, doubts, and what to know beside it.

    Args:
        source: The model and what particles start from.
        observed: Data by name of an observed node; the document's elsewhere.
        num_particles: Of each run.
        num_runs: Independent runs; from 20 on, errors are those of their spread.
        seed: Decides every draw.
        method: One of `METHODS`.
        proposal: What particles start from: flow, prior or mixture.
        mixture_weight: Share of the prior in the mixture.
        config: Moves, temperatures and resampling; a sequential run resamples by it.
        on_report: Called with the number of the run and each of its reports.

    Raises:
        FlowsError: If data or arguments do not fit, or a weight is without meaning.
    """
    if method not in METHODS:
        raise ArgumentError.at("method", "unknown method", " or ".join(METHODS), method)
    seed = seed_of(seed)
    config = AnnealingConfig(move=Hamiltonian(16)) if config is None else config
    data = row_of(source.model, observed)
    model = _target(source)
    how = Drawing(proposal=proposal, mixture_weight=mixture_weight)
    first = how.of(source.trained, model)
    start: Callable[..., Iterator[SmcReport | AnnealingReport]]
    notes: tuple[Caution, ...] = ()
    if method == "sequential":
        # The seed after those of the runs: draws that no particle has a part in.
        pilot = torch.Generator().manual_seed(run_seed(seed, num_runs))
        start = partial(
            sequential_smc,
            _sequence(first, model, data, pilot),
            ess_threshold=config.ess_threshold,
            scheme=config.scheme,
        )
    else:
        space, notes = space_of(first, model, data, seed=run_seed(seed, num_runs))
        notes = (*notes, *lost_on_the_way(model, data, run_seed(seed, num_runs)))
        if isinstance(space, FreeSpace):
            config = replace(
                config, move=EdgeMoves(model, held_columns(model), config.move)
            )
        start = partial(annealed_smc, space, config=config)
    results: list[SmcResult] = []
    annealed: list[AnnealingReport] = []
    for run in range(num_runs):
        for report in start(num_particles=num_particles, seed=run_seed(seed, run)):
            if on_report is not None:
                on_report(run, report)
            if isinstance(report, AnnealingReport):
                annealed.append(report)
            if report.result is not None:
                results.append(report.result)
    merged = merge_runs(results)
    particles = completed(model, merged.particles, data, seed)
    # What moves at the end has forgotten where it was stuck on the way.
    doubts = move_cautions([each for each in annealed if each.temperature == 1.0])
    if not doubts:
        notes = (*notes, *move_cautions(annealed))
    missed = tempered_edge_doubts(
        model.forgiving(),
        data,
        merged.particles,
        annealed,
        seed=seed,
        from_prior=isinstance(first, PriorProposal),
    )
    doubts = (*missed, *doubts)
    return replace(merged, particles=particles), doubts, notes


def _target(source: Source) -> FlowTarget:
    """Return the model whose latents move.

    Raises:
        ArgumentError: If none of them does, or some cannot move with the others.
    """
    # A move to where the model has no meaning is refused; it does not end the run.
    model = source.target.forgiving()
    if not model.layout.latents:
        raise ArgumentError.at(
            "smc",
            "the model has no continuous latents to move",
            "`daphne-flows infer`, which answers it exactly",
        )
    if isinstance(model, CollapsedModel) and model.sampled:
        labels = listed([model.layout.variable(name).label for name in model.sampled])
        raise ArgumentError.at(
            "smc",
            f"discrete latents that are not summed out ({labels}) do not move with "
            "the others",
            "`daphne-flows infer`, which moves them one by one, or `sample`",
        )
    return model


def _sequence(
    proposal: Proposal,
    model: FlowTarget,
    data: Tensor,
    pilot: torch.Generator,
) -> Sequence:
    """Return the steps in which a proposal's latents and the observes enter."""
    if isinstance(model, CollapsedModel):
        raise ArgumentError.at(
            "method sequential",
            "observes share discrete latents that are summed out, so they cannot "
            "enter one by one",
            "annealed",
        )
    match proposal:
        case FlowProposal():
            return FlowSequence.fitted(model, proposal.flow, data, generator=pilot)
        case PriorProposal():
            return PriorSequence.from_model(model, data)
        case _:
            return ObserveSequence(model, proposal, data)

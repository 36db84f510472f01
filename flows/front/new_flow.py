"""This file makes the flow that training starts from, and the inverse that it is of."""

import torch

from ..flow.building import (
    InverseLike,
    build_structure,
    inverse_of,
    prepare_structure,
    structure_at,
)
from ..flow.kinds import build_flow, kind_of
from ..flow.protocol import Flow
from ..flow.structure import Structure
from ..heads.building import headed_flow, headed_inverse, headed_structure
from ..heads.networks import HeadsConfig
from ..marginal.collapsed import CollapsedModel
from ..model.model import Model
from ..training.config import TrainingConfig, nuisance_counts
from ..training.economy import preparing_draws
from ..training.one_data_set import OneDataSet
from ..training.processes import Ranks
from .material import Material

__all__ = ["new_flow"]

_OF_NO_LATENTS = "autoregressive"
"""The kind whose flow of no latents stands beside heads of all."""


def new_flow(
    model: Model,
    material: Material,
    settings: TrainingConfig,
    *,
    seed: int,
    alone: OneDataSet | None,
    ranks: Ranks,
) -> tuple[Flow, InverseLike]:
    """Return a flow that is not yet trained, and the inverse along which it is built.

    Args:
        model: The target, with all its latents.
        material: What is trained on.
        settings: Of training.
        seed: Of the first weights, and of draws that the structure is chosen by.
        alone: The target with its data, if those are to be the only ones.
        ranks: The processes that share the run.
    """
    target, kind, config = material.training, settings.kind, settings.flow
    if isinstance(target, CollapsedModel) and target.sampled:
        headed = target
        ordered = ranks.shared(lambda: headed_inverse(headed))
        structure, cells = ranks.shared(
            lambda: headed_structure(
                headed,
                ordered,
                nuisance_counts(settings.augment, model.layout),
                num_draws=preparing_draws(
                    settings,
                    build_structure(ordered, headed.layout),
                    len(model.lowered.dag),
                ),
                seed=seed,
            )
        )
        if len(cells) == len(structure.blocks):
            kind, config = _OF_NO_LATENTS, None
        flow = headed_flow(
            structure, cells, kind=kind, config=config, heads=HeadsConfig(), seed=seed
        )
        return flow, ordered
    inverse = ranks.shared(lambda: inverse_of(model.graph, target.layout))
    structure = ranks.shared(
        lambda: _structure(model, inverse, material, settings, seed, alone)
    )
    return build_flow(structure, config, kind=kind, seed=seed), inverse


def _structure(
    model: Model,
    inverse: InverseLike,
    material: Material,
    settings: TrainingConfig,
    seed: int,
    alone: OneDataSet | None,
) -> Structure:
    graph, layout = model.graph, material.training.layout
    nuisances = nuisance_counts(settings.augment, model.layout)
    whole = build_structure(inverse, layout, nuisances)
    of_kind = kind_of(settings.kind).structure
    if of_kind is not None:
        data = None if alone is None else alone.observed
        return of_kind(whole, graph, layout, data)
    num_draws = preparing_draws(settings, whole, len(model.lowered.dag))
    if alone is not None:
        generator = torch.Generator().manual_seed(seed)
        draws = alone.sample(num_draws, generator=generator)
        free, _ = alone.unconstrain(draws.latents)
        return structure_at(inverse, layout, free, alone.observed, nuisances)
    return prepare_structure(
        material.training,
        whole,
        layout,
        {node.name: node.parents for node in graph.nodes},
        num_draws=num_draws,
        seed=seed,
    )

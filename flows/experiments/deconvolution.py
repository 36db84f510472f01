r"""This file deconvolves image patches with a flow (figures 8 and 9).

The program convolves an image z with a filter k in steps of 2 and adds noise,
x = conv(z, k) + N(0, sd²). Pixels come from a table of patches (`DataBackedModel`), so
only the forward KL trains. For draws z of the posterior given held-out x and k,

    E (conv(z, k) - x)² / sd² = 1,

as (z, x) is distributed like (truth, x): a figure that needs no density.

References:
    Weilbach et al., AISTATS 2020, section 4.3.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.elimination_plans import PUBLISHED
from daphne_bridge.graph import Graph
from daphne_bridge.inversion import invert

from ..cnf.engine import AdaptiveEngine
from ..cnf.engines import EngineFactory
from ..cnf.flow import ConditionalFlow, build_flow
from ..cnf.structure import build_structure
from ..cnf.vector_field import FieldConfig
from ..errors import FlowsError, Problem
from ..model.data_backed import DataBackedModel
from .published_training import (
    Loss,
    PublishedConfig,
    fit_scales,
    train_as_published,
)

__all__ = ["convolve", "deconvolve", "forward_loss", "inverse_adjacency"]

_BATCH = 100
_STRIDE = 2
_STEPS = 8
_NOISE_SD = 1.0  # of the program's outputs
_SAMPLES = 5
_SHOWN = 6


def inverse_adjacency(graph: Graph) -> dict[str, Any]:
    """Return the inverse as a 0-1 matrix, latents as sampled by (latents, observed)."""
    inverse = invert(graph, plans=PUBLISHED)
    columns = [*inverse.latents, *inverse.observed]
    place = {name: i for i, name in enumerate(columns)}
    matrix = [[0] * len(columns) for _ in inverse.latents]
    for row, name in enumerate(inverse.latents):
        for parent in inverse.parents[name]:
            matrix[row][place[parent]] = 1
    latents = len(inverse.latents)
    possible = latents * (latents - 1) // 2 + latents * len(inverse.observed)
    return {
        "rows": list(inverse.latents),
        "columns": columns,
        "adjacency": matrix,
        "edges": inverse.num_edges,
        "edges_of_a_full_acyclic_inverse": possible,
        "edges_by_default_plans": invert(graph).num_edges,
    }


def convolve(
    images: Float[Tensor, "batch row column"], filters: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch out_row out_column"]:
    """Return each image convolved with its own filter, in steps of 2."""
    joined: Tensor = torch.nn.functional.conv2d(
        images[None], filters[:, None], stride=_STRIDE, groups=len(images)
    )
    return joined[0]


def forward_loss(
    model: DataBackedModel, flow: ConditionalFlow, make_engine: EngineFactory
) -> Loss:
    """Return the mean of -log q over fresh batches: forward KL up to a constant."""
    engine = make_engine(_STEPS)

    def loss(generator: torch.Generator) -> Tensor:
        draws = model.sample(_BATCH, generator=generator)
        return -_log_prob(model, flow, draws, generator, engine).mean()

    return loss


def deconvolve(
    graph: Graph,
    training: DataBackedModel,
    held_out: DataBackedModel,
    *,
    iterations: int,
    hidden: int,
    engine: EngineFactory,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Return figures of a trained flow on held-out patches, with a few examples.

    Args:
        graph: of the convolution program.
        training: with the patches to train on.
        held_out: with other patches.
        iterations: of training.
        hidden: hidden units per pixel and layer.
        engine: makes the training engine.
        note: told what is done.
    """
    _check_layout(training)
    structure = build_structure(invert(graph), training.layout, 0)
    flow = build_flow(structure, FieldConfig(hidden=hidden), seed=0)
    generator = torch.Generator().manual_seed(0)
    draws = training.sample(10_000, generator=generator)
    fit_scales(flow, training.unconstrain(draws.latents)[0], draws.observed)
    loss = forward_loss(training, flow, engine)
    started = time.perf_counter()
    losses = []
    skipped = 0
    for step in train_as_published(flow, loss, PublishedConfig(iterations), seed=1):
        losses.append(step.loss)
        skipped += step.is_skipped
        if step.iteration % max(1, iterations // 5) == 0:
            note(f"deconvolution, iteration {step.iteration}: {step.loss:.4g} nats")
    return {
        "iterations": iterations,
        "seconds": time.perf_counter() - started,
        "skipped": skipped,
        "forward_loss": losses,
        "parameters": flow.field.num_parameters(),
        **_held_out_figures(held_out, flow),
    }


def _log_prob(
    model: DataBackedModel,
    flow: ConditionalFlow,
    draws: Any,
    generator: torch.Generator,
    engine: Any,
) -> Tensor:
    free = model.unconstrain(draws.latents)[0].to(flow.normalisation.shift.dtype)
    auxiliary = torch.randn(
        len(free), flow.structure.auxiliary_dim, generator=generator, dtype=free.dtype
    )
    observed = draws.observed.to(free.dtype)
    return flow.log_prob(free, auxiliary, observed, engine=engine)


def _held_out_figures(model: DataBackedModel, flow: ConditionalFlow) -> dict[str, Any]:
    """Return the held-out loss, the reconstruction's figure and examples."""
    generator = torch.Generator().manual_seed(2)
    precise = flow.double()
    rows = torch.arange(len(model.table))
    draws = model.sample_at(rows, generator=generator)
    engine = AdaptiveEngine(1e-5)
    with torch.no_grad():
        log_prob = _log_prob(model, precise, draws, generator, engine)
        many = draws.observed.repeat_interleave(_SAMPLES, 0)
        base = precise.sample_base(len(many), generator=generator)
        free = precise.base_to_latent(base, many, engine=engine)[0]
        latents = model.constrain(free)[0]
    filters, outputs = many[:, :9].reshape(-1, 3, 3), many[:, 9:].reshape(-1, 4, 4)
    images = latents.reshape(-1, 9, 9)
    rebuilt = convolve(images, filters)
    errors = (rebuilt - outputs).square().mean((1, 2)) / _NOISE_SD**2
    per_patch = errors.reshape(-1, _SAMPLES).mean(1)
    truth = convolve(draws.latents.reshape(-1, 9, 9), filters[::_SAMPLES])
    reference = (truth - outputs[::_SAMPLES]).square().mean() / _NOISE_SD**2
    few = slice(0, _SHOWN)

    def shown(values: Tensor, *shape: int) -> list[Any]:
        nested: list[Any] = values.reshape(-1, *shape)[few].tolist()
        return nested

    return {
        "held_out_patches": len(rows),
        "held_out_loss": float(-log_prob.mean()),
        "held_out_loss_standard_error": float(log_prob.std() / len(rows) ** 0.5),
        "mean_squared_error_over_variance": float(per_patch.mean()),
        "its_standard_error": float(per_patch.std() / len(rows) ** 0.5),
        "same_for_the_true_images": float(reference),
        "examples": {
            "inputs": shown(draws.latents, 9, 9),
            "filters": shown(filters[::_SAMPLES], 3, 3),
            "outputs": shown(outputs[::_SAMPLES], 4, 4),
            "samples": shown(images, _SAMPLES, 9, 9),
            "reconstructions": shown(rebuilt, _SAMPLES, 4, 4),
        },
    }


def _check_layout(model: DataBackedModel) -> None:
    """Refuse programs that do not observe a 3x3 filter and then 4x4 outputs."""
    sizes = (model.layout.latent_dim, model.layout.observed_dim)
    if sizes != (81, 25):
        raise FlowsError(
            Problem(
                model.model.graph.source,
                "not the convolution program",
                "81 pixels, 9 observed filter weights, 16 outputs",
                f"{sizes[0]} latents, {sizes[1]} observed",
            )
        )

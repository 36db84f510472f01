r"""This file deconvolves image patches with a flow (figures 8 and 9).

The program convolves an image z with a filter k in steps of 2 and adds noise,
x = conv(z, k) + N(0, sd²). Pixels come from a table of patches (`DataBackedModel`), so
only objectives of draws train: flow matching, then the forward KL. For draws z of the
posterior given held-out x and k,

    E (conv(z, k) - x)² / sd² = 1,

as (z, x) is distributed like (truth, x): a figure that needs no density.

References:
    Weilbach et al., AISTATS 2020, section 4.3.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import invert

from ..cnf.engines import EngineFactory
from ..cnf.flow import ConditionalFlow
from ..errors import FlowsError
from ..flow.building import build_structure, prepare_structure
from ..flow.kinds import certified
from ..flow.protocol import Flow
from ..model.data_backed import DataBackedModel
from ..model.draws import Draws
from ..training.config import TrainingConfig, nuisance_counts
from ..training.loop import fit

__all__ = ["convolve", "deconvolve", "inverse_adjacency"]

_STRIDE = 2
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


def deconvolve(
    graph: Graph,
    training: DataBackedModel,
    held_out: DataBackedModel,
    config: TrainingConfig,
    *,
    engine: EngineFactory,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Return figures of a trained flow on held-out patches, with a few examples.

    Args:
        graph: of the convolution program.
        training: with the patches to train on.
        held_out: with other patches.
        config: of the training; its objective is the forward KL.
        engine: makes the training engine.
        note: told what is done.
    """
    _check_layout(training)
    nuisances = nuisance_counts(config.augment, training.layout)
    structure = prepare_structure(
        training,
        build_structure(invert(graph), training.layout, nuisances),
        training.layout,
        {node.name: node.parents for node in graph.nodes},
        num_draws=config.normalisation_draws,
        seed=0,
    )
    flow = ConditionalFlow(structure, config.flow, seed=0).with_engines(engine)
    losses: dict[str, list[float]] = {}
    run = fit(training, flow, config, seed=1, held_out=held_out)
    for report in run:
        losses.setdefault(report.phase, []).append(report.loss)
        if report.status.startswith(("certified", "ended")):
            note(
                f"deconvolution, iteration {report.iteration}: {report.phase}, "
                f"{report.loss:.4g}"
            )
    state = run.state().values
    return {
        "iterations": state["iteration"],
        "seconds": state["seconds"],
        "losses": losses,
        "parameters": flow.field.num_parameters(),
        **_held_out_figures(held_out, flow),
    }


def _log_prob(
    model: DataBackedModel,
    flow: Flow,
    draws: Draws,
    generator: torch.Generator,
) -> Tensor:
    free = model.unconstrain(draws.latents)[0].to(flow.dtype)
    nuisances = torch.randn(
        len(free), flow.structure.nuisance_dim, generator=generator, dtype=free.dtype
    )
    observed = draws.observed.to(free.dtype)
    return flow.log_prob(free, nuisances, observed)


def _held_out_figures(model: DataBackedModel, flow: Flow) -> dict[str, Any]:
    """Return the held-out loss, the reconstruction's figure and examples."""
    generator = torch.Generator().manual_seed(2)
    precise = certified(flow, 1e-5)
    rows = torch.arange(len(model.table))
    draws = model.sample_at(rows, generator=generator)
    with torch.no_grad():
        log_prob = _log_prob(model, precise, draws, generator)
        many = draws.observed.repeat_interleave(_SAMPLES, 0)
        base = precise.sample_base(len(many), generator=generator)
        free = precise.from_base(base, many).free
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
        raise FlowsError.at(
            model.model.graph.source,
            "not the convolution program",
            "81 pixels, 9 observed filter weights, 16 outputs",
            f"{sizes[0]} latents, {sizes[1]} observed",
        )

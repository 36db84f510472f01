r"""This file learns a deep latent Gaussian model of digits, and compares posteriors.

`learn` finds the weights of `clj-programs/learning/digits.daphne` from images in black
and white. Then posteriors of the two latents of an image, amortised over images, are
trained on draws of the learned model: a normal of diagonal covariance, planar flows of
it, and the kind of flow that does best. On images that were held out their bounds

    log p(x) >= E log 1/K Σ_k p(z_k, x) / q(z_k | x),      z_k drawn from q,

stand beside log p(x) itself, an integral over z on a grid.

References:
    Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    section 6.2 and figure 4.
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.kinds import build_flow, for_weights
from ..flow.protocol import Flow
from ..flow.structure import StateBlock, Structure
from ..front.learn import learn
from ..model.model import Model
from ..training.config import training_config_from
from ..training.loop import fit

__all__ = [
    "POSTERIORS",
    "DigitsConfig",
    "black_and_white",
    "compare_posteriors",
    "grid_log_evidence",
]

_PARAMETERS = ("across", "along", "offset", "weight", "bias")

_FREE_ENERGY = {
    "kind": "finite",
    "augment": 0,
    "objective": "free-energy",
    "annealing_fraction": 0.2,
}
POSTERIORS: Mapping[str, Mapping[str, Any]] = {
    "diagonal normal": {**_FREE_ENERGY, "flow": {"length": 0}},
    "planar, 4": {**_FREE_ENERGY, "flow": {"length": 4}},
    "planar, 16": {**_FREE_ENERGY, "flow": {"length": 16}},
    "autoregressive": {"kind": "autoregressive", "integrate": "none"},
}
"""What is trained, by the name that stands in pictures."""

_HALF = 7.5
"""Between the grey values that are white and black: of 0 to 16."""
_FAR = 6.0
_ROWS = 2**15
_SHOWN = 9


@dataclass(frozen=True, slots=True)
class DigitsConfig:
    """How long digits are learned.

    Args:
        images: that the weights are learned from.
        held_out: other images, on which posteriors are compared.
        learning_seconds: budget of `learn`.
        seconds: training of each posterior.
        particles: draws of each posterior, for each image.
        points: of the grid, along each latent.
    """

    images: int
    held_out: int
    learning_seconds: float
    seconds: float
    particles: int = 1000
    points: int = 161


def black_and_white(
    grey: Float[np.ndarray, "image row column"],
) -> Float[Tensor, "image pixel"]:
    """Return images as pixels of 0 and 1, in an order that has no order."""
    order = torch.randperm(len(grey), generator=torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(grey).flatten(1)
    return (pixels > _HALF).to(torch.float64)[order]


def compare_posteriors(
    model: Model,
    images: Float[Tensor, "image pixel"],
    config: DigitsConfig,
    *,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Return the learned model's figures, and each posterior's bounds below log p(x).

    Args:
        model: of the program, with its parameters.
        images: black and white pixels; the first are learned from, the last held out.
        config: how many, and how long.
        note: told what is done.
    """
    data = images.to(model.dtype)
    seen, unseen = data[: config.images], data[-config.held_out :]
    learned = learn(model, seen, _PARAMETERS, budget=config.learning_seconds)
    note(repr(learned))
    exact = grid_log_evidence(learned.model, unseen, config.points)
    posteriors = {}
    for name, settings in POSTERIORS.items():
        started = time.process_time()
        flow = _trained(learned.model, settings, config.seconds)
        seconds = time.process_time() - started
        gaps = _gaps(learned.model, flow, unseen, exact, config.particles)
        posteriors[name] = {"seconds": seconds, "gaps": gaps}
        note(f"{name}: {gaps[0]['mean']:.3g} nats below log p(x)")
    return {
        "parameters": len(learned.parameters),
        "method": learned.method,
        "learning_seconds": learned.seconds,
        "is_trusted": learned.is_trusted,
        "cautions": [str(caution) for caution in learned.cautions],
        "log_evidence_seen": learned.log_likelihood / len(seen),
        "log_evidence_by_grid": float(
            grid_log_evidence(learned.model, seen, config.points).mean()
        ),
        "log_evidence": float(exact.mean()),
        "held_out": len(unseen),
        "posteriors": posteriors,
        "decoded": _decoded(learned.model),
    }


@torch.no_grad()
def grid_log_evidence(
    model: Model, data: Float[Tensor, "image pixel"], points: int
) -> Float[Tensor, " image"]:
    """Return log p(x) of images, in nats: a sum over midpoints of a grid of z."""
    cells = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    line = 2.0 * _FAR * (cells - 0.5)
    z = torch.cartesian_prod(line, line)
    area = 2.0 * math.log(2.0 * _FAR / points)
    rows = [model.log_joint(z, x.expand(len(z), -1)).logsumexp(0) for x in data]
    return torch.stack(rows) + area


def _trained(model: Model, settings: Mapping[str, Any], seconds: float) -> Flow:
    """Return a flow of both latents given all pixels, in float64."""
    chosen = training_config_from(
        {**settings, "budget_seconds": seconds}, "the experiment"
    )
    pixels = tuple(range(model.layout.observed_dim))
    blocks: tuple[StateBlock, ...] = (StateBlock("z", (0, 1), 0, (), pixels),)
    if chosen.kind == "autoregressive":
        first = StateBlock("z[0]", (0,), 0, (), pixels)
        blocks = (first, StateBlock("z[1]", (1,), 0, (0,), pixels))
    structure = Structure(blocks, len(pixels))
    flow = build_flow(structure, chosen.flow, kind=chosen.kind)
    for _ in fit(model, flow, chosen, seed=0, clock=time.process_time):
        pass
    return for_weights(flow)


@torch.no_grad()
def _gaps(
    model: Model,
    flow: Flow,
    data: Float[Tensor, "image pixel"],
    exact: Float[Tensor, " image"],
    particles: int,
) -> list[dict[str, float]]:
    """Return nats of log p(x) that bounds of 1, 10, ... particles lack, over images."""
    generator = torch.Generator().manual_seed(1)
    parts = []
    for some in torch.split(data, max(1, _ROWS // particles)):
        observed = some.repeat_interleave(particles, 0)
        drawn = flow.rsample_and_log_prob(observed, generator=generator)
        joint = model.log_joint_free(drawn.free, observed)
        parts.append((joint - drawn.log_prob).view(len(some), particles))
    log_weights = torch.cat(parts)
    found, num = [], 1
    while num <= particles:
        grouped = log_weights[:, : particles // num * num].view(len(data), -1, num)
        bound = grouped.logsumexp(2).mean(1) - math.log(num)
        gaps = exact - bound
        error = float(gaps.std()) / math.sqrt(len(data))
        found.append(
            {
                "particles": num,
                "mean": float(gaps.mean()),
                "standard_error": error,
                "largest": float(gaps.max()),
            }
        )
        num *= 10
    return found


@torch.no_grad()
def _decoded(model: Model) -> list[list[float]]:
    """Return the chance of each pixel at quantiles of both latents, row by row."""
    share = (torch.arange(_SHOWN, dtype=torch.float64) + 0.5) / _SHOWN
    line = math.sqrt(2.0) * torch.erfinv(2.0 * share - 1.0)
    z = torch.cartesian_prod(line, line)
    ones = z.new_ones(len(z), model.layout.observed_dim)
    chances = model.log_likelihood_terms(z, ones).exp()
    return [[round(value, 3) for value in row] for row in chances.tolist()]

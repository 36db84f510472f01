"""This file prepares the pictures of weighted particles of one data set."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..inference.particles import Particles
from ..measurement.predictive import posterior_predictive
from ..model.model import Model
from .particle_plots import marginals_plot, pairs_plot, predictive_plot, weights_plot
from .picture import Picture
from .words import number

__all__ = ["particle_pictures", "predicted"]

_MOST_NUMBERS = 80
_MOST_PLOTTED = 50_000
_MOST_COLUMNS = 200
_MOST_DRAWN = 20_000_000
_DRAWS = 5000


def particle_pictures(model: Model, particles: Particles) -> dict[str, Any]:
    """Return marginals over the prior, the most correlated pairs, and weights.

    Of many latents the first 200 numbers are looked at.

    Raises:
        InferenceError: If every weight is 0.
    """
    rows = slice(None, None, -(-len(particles) // _MOST_PLOTTED))
    log_weights = particles.log_weights[rows]
    weights = log_weights.softmax(0).numpy()
    names = particles.element_labels[:_MOST_COLUMNS]
    columns = [c.numpy() for c in particles.latents[rows, :_MOST_COLUMNS].T]
    prior = model.forgiving().sample_latents(
        _num_draws(model), generator=torch.Generator().manual_seed(0)
    )
    others = [c[c.isfinite()].numpy() for c in prior.T[:_MOST_COLUMNS]]
    return {
        "marginals": Picture.of_plot(
            "posterior marginals; the prior in grey",
            partial(marginals_plot, names, columns, weights, others),
            columns=1,
        ),
        "pairs": Picture.of_plot(
            "pairs of latents", partial(pairs_plot, names, columns, weights), most=3
        ),
        "weights": Picture(
            "histogram of log weights", weights_plot(log_weights.tolist())
        ),
    }


def predicted(
    model: Model, particles: Particles, observed: Mapping[str, float]
) -> dict[str, Any]:
    """Return rows and a picture of new data beside the data, numbers by name.

    Raises:
        InferenceError: If every weight is 0.
    """
    row = torch.tensor(list(observed.values()), dtype=torch.float64)
    found = posterior_predictive(
        model.forgiving(),
        particles,
        row,
        _num_draws(model),
        generator=torch.Generator().manual_seed(1),
    )
    keys = ("mean", "sd", "quantile_05", "quantile_95")
    return {
        "predicted": [
            (
                each.name,
                number(each.observed if each.value is None else each.value),
                *(number(getattr(each, key)) for key in keys),
                "-" if math.isnan(each.level) else f"{each.level:.1%}",
            )
            for each in found.numbers[:_MOST_NUMBERS]
        ],
        "new_data": Picture.of_plot(
            "new data; a line marks the data at hand",
            partial(predictive_plot, found.to_json()),
            columns=1,
        ),
    }


def _num_draws(model: Model) -> int:
    """Return how many joint draws of a model are made, few of a large one."""
    layout = model.layout
    numbers = sum(v.size for v in (*layout.latents, *layout.observed))
    return max(100, min(_DRAWS, _MOST_DRAWN // max(numbers, 1)))

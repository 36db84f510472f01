r"""This file fits flows of two columns to energies that programs state, by quadrature.

A program with latents z1 and z2 on a rectangle, all of whose data are one zero of a
Poisson count with mean U(z) + 1, has the posterior p(z) = exp(-U(z)) / Z there. Flows
of the block (z1, z2) minimise the annealed free energy; then

    KL(q, p) = int q (log q - log p) dz

is a sum over the midpoints of a grid, and so is Z.

References:
    Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    section 6.1, table 1 and figure 3.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.kinds import build_flow, for_weights, solved_with
from ..flow.protocol import Flow
from ..flow.structure import StateBlock, Structure
from ..model.model import Model
from ..training.config import training_config_from
from ..training.loop import fit
from ..training.one_data_set import OneDataSet

__all__ = ["FITTED", "EnergiesConfig", "fit_energies", "grid_of"]

_PLANAR = {"kind": "finite", "learning_rate": 3e-2}
"""Planar layers have far to go from nearly the identity."""

FITTED: Mapping[str, Mapping[str, Any]] = {
    "diagonal normal": {"kind": "finite", "flow": {"length": 0}},
    "planar, 2": {**_PLANAR, "flow": {"length": 2}},
    "planar, 8": {**_PLANAR, "flow": {"length": 8}},
    "planar, 32": {**_PLANAR, "flow": {"length": 32}},
    "radial, 32": {
        "kind": "finite",
        "flow": {"transform": "radial", "length": 32},
    },
    "continuous": {"kind": "cnf"},
}
"""What is fitted, by the name that stands in pictures."""

_SIZES = (8.0, 12.0)
"""Of the rectangle |z1| <= 4, |z2| <= 6."""
_PICTURE = 100
_ROWS = 20_000
_SETTINGS = {
    "augment": 0,
    "amortised": False,
    "batch_size": 256,
    "budget_seconds": 0,
    "certify_draws": 1000,
    "num_certifications": 2,
    "normalisation_draws": 10_000,
    "report_every": 50,
}


@dataclass(frozen=True, slots=True)
class EnergiesConfig:
    """How long flows are fitted.

    Args:
        iterations: of finite flows.
        continuous_iterations: of the continuous flow.
        points: of the grid, along each axis.
    """

    iterations: int
    continuous_iterations: int
    points: int


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Midpoints of equal cells, and the target there.

    Args:
        cell: area of a cell.
        free: free coordinates.
        log_det: log|d value / d free coordinates|.
        log_target: log p(z), in nats.
        log_total: log Z of the program, its evidence.
    """

    cell: float
    free: Float[Tensor, "point free"]
    log_det: Float[Tensor, " point"]
    log_target: Float[Tensor, " point"]
    log_total: float


def fit_energies(
    models: Mapping[str, Model],
    config: EnergiesConfig,
    *,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """KL of each flow to each energy, in nats, and densities for pictures.

    Args:
        models: the energies' programs.
        config: how long.
        note: told what is done.
    """
    energies: dict[str, Any] = {}
    for name, model in models.items():
        grid = grid_of(model, config.points)
        coarse = grid_of(model, _PICTURE)
        fitted: dict[str, Any] = {}
        for flow_name, settings in FITTED.items():
            started = time.process_time()
            flow = _fitted(model, settings, config)
            seconds = time.process_time() - started
            log_density = _log_density(flow, grid)
            density = log_density.exp() * grid.cell
            divergence = float((density * (log_density - grid.log_target)).nansum())
            fitted[flow_name] = {
                "kl": divergence,
                "mass": float(density.sum()),
                "seconds": seconds,
                "density": _picture(_log_density(flow, coarse)),
            }
            note(f"{name}, {flow_name}: KL {divergence:.3g} nats")
        energies[name] = {
            "log_evidence": grid.log_total,
            "density": _picture(coarse.log_target),
            "flows": fitted,
        }
    return {"energies": energies, "extent": [side / 2 for side in _SIZES]}


def grid_of(model: Model, points: int) -> _Grid:
    """Midpoints of `points` cells along each axis, with the density of a program."""
    steps = (torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5
    values = torch.cartesian_prod(*(side * steps for side in _SIZES))
    cell = math.prod(side / points for side in _SIZES)
    free, log_det = model.unconstrain(values)
    observed = model.observation().expand(len(values), -1)
    log_joint = model.log_joint(values, observed)
    log_total = float(log_joint.logsumexp(0)) + math.log(cell)
    return _Grid(cell, free, log_det, log_joint - log_total, log_total)


def _fitted(model: Model, settings: Mapping[str, Any], config: EnergiesConfig) -> Flow:
    is_continuous = settings["kind"] == "cnf"
    iterations = config.continuous_iterations if is_continuous else config.iterations
    chosen = training_config_from(
        {**_SETTINGS, **settings, "max_iterations": iterations}, "the experiment"
    )
    structure = Structure(
        (StateBlock("z", (0, 1), 0, (), ()),), model.layout.observed_dim
    )
    flow = build_flow(structure, chosen.flow, kind=chosen.kind)
    target = OneDataSet(model, model.observation())
    for _ in fit(target, solved_with(flow, "auto"), chosen, seed=0):
        pass
    return for_weights(flow)


@torch.no_grad()
def _log_density(flow: Flow, grid: _Grid) -> Float[Tensor, " point"]:
    """Log q(z) of the points of a grid, in nats."""
    parts = []
    for free in torch.split(grid.free, _ROWS):
        observed = free.new_zeros(len(free), flow.structure.observed_dim)
        parts.append(flow.log_prob(free, free[:, :0], observed))
    return torch.cat(parts) - grid.log_det


def _picture(log_density: Tensor) -> list[list[float]]:
    """Densities as rows of a picture, z2 upwards."""
    square = log_density.exp().reshape(_PICTURE, _PICTURE)
    return [[round(value, 4) for value in row] for row in square.T.tolist()]

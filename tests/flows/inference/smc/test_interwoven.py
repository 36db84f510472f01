"""Tests of moves in two coordinates in turn."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from flows.inference.proposal import PriorProposal
from flows.inference.smc.coordinates import FreeSpace
from flows.inference.smc.interwoven import InterwovenMoves
from flows.inference.smc.moves import Hamiltonian
from flows.inference.smc.schedule import Stage, weighted_factor
from flows.model.model import Model
from tests.flows.model.programs import graph_of

from ..targets import seeded

NUM, SIZE = 1000, 8
FUNNEL = f"""(let [tau (sample (half-normal 1))]
  (foreach {SIZE} [] (observe (normal (sample (normal 0 tau)) 1) 0)) tau)"""


def space_of(target, model):
    return FreeSpace(target, PriorProposal(model), model.observation(None))


def moved(move, num_moves, model):
    """Return tau of particles that begin far from the funnel's neck, after moves."""
    space = space_of(model, model)
    noise = torch.randn((NUM, 1 + SIZE), dtype=torch.float64, generator=seeded(0))
    latents = noise.clone()
    latents[:, 0] = (0.1 * noise[:, 0]).exp()
    place, _ = model.unconstrain(latents)
    weights = torch.full((NUM,), 1.0 / NUM, dtype=torch.float64)
    stage = Stage(1.0, weighted_factor(place, weights), 0.3, num_moves)
    generator, point = seeded(1), space.at(place)
    for _ in range(num_moves):
        point = move.step(point, space.at, stage, generator).point
    return point.latents[:, 0].numpy()


def share_below(limit):
    """Return P(tau < limit | y = 0), the locations integrated out."""

    def density(tau):
        heights = stats.norm.pdf(0.0, scale=np.sqrt(1.0 + tau * tau)) ** SIZE
        return stats.halfnorm.pdf(tau) * heights

    return (
        integrate.quad(density, 0.0, limit)[0] / integrate.quad(density, 0.0, np.inf)[0]
    )


def test_a_funnels_neck_is_reached_by_moves_in_other_coordinates():
    model = Model.from_graph(graph_of(FUNNEL))
    other = model.standardised()
    columns = model.coordinates.locating
    assert columns == (model.layout.variable(model.layout.latents[0].name).free_start,)
    trajectories = Hamiltonian(8)
    move = InterwovenMoves(model, space_of(other, model), other, columns, trajectories)
    expected = share_below(0.1)
    error = np.sqrt(expected * (1.0 - expected) / NUM)
    assert (moved(move, 12, model) < 0.1).mean() == pytest.approx(
        expected, abs=5.0 * error
    )
    # Trajectories alone are not there yet.
    assert (moved(trajectories, 12, model) < 0.1).mean() < expected - 5.0 * error

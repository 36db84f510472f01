"""Tests of flows.front.tempered."""

from dataclasses import replace

import pytest
import torch

from flows.front.tempered import _sliced
from flows.inference.proposal import PriorProposal
from flows.inference.smc.annealing import init, step
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import FreeSpace
from flows.inference.smc.mirrors import MirrorMoves
from flows.inference.smc.moves import Hamiltonian
from flows.inference.smc.sites import SiteMoves
from flows.inference.smc.slices import SliceMoves
from flows.model.model import Model
from tests.flows.model.programs import graph_of

MOVES = {
    "trajectories": Hamiltonian(16),
    "mirror images": MirrorMoves((0,), Hamiltonian(16)),
}
COUNTED = SiteMoves((), Hamiltonian(16))


def after_one_temperature(move, correlation):
    text = "(let [x (sample (normal 0 2))] (observe (normal (abs x) 1) 2) x)"
    model = Model.from_graph(graph_of(text)).forgiving()
    space = FreeSpace(model, PriorProposal(model), model.observation(None))
    config = AnnealingConfig(move=move)
    generator = torch.Generator().manual_seed(0)
    state, report = step(init(space, 50, config, generator), space, config, generator)
    return config, state, replace(report, correlation=correlation)


@pytest.mark.parametrize("name", MOVES)
def test_moves_that_do_not_forget_are_kept_beside_slices(name):
    config, state, report = after_one_temperature(MOVES[name], 0.9)
    found = _sliced(config, state, report)
    assert found.move == SliceMoves(MOVES[name])
    assert _sliced(found, state, report) is found


def test_moves_that_forget_and_those_of_counted_values_stay():
    config, state, report = after_one_temperature(Hamiltonian(16), 0.1)
    assert _sliced(config, state, report) is config
    config, state, report = after_one_temperature(Hamiltonian(16), 0.9)
    counted = replace(config, move=COUNTED)
    assert _sliced(counted, state, report) is counted

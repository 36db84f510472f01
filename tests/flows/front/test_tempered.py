"""Tests of flows.front.tempered."""

import math
from dataclasses import replace

import pytest
import torch

from flows.front.clock import Clock
from flows.front.inference import infer
from flows.front.question import Question
from flows.front.tempered import _sliced, tempered
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


def test_moves_at_the_end_do_not_take_the_time_of_the_other_island():
    # Seen: one island was moved on for more effective draws until the budget was used
    # up, and the answer was what tempering began with.
    text = "(let [x (sample (normal 0 1))] (observe (normal x 1) 1) x)"
    model = Model.from_graph(graph_of(text))
    ended = []

    class BothAtTheirEnds(Clock):
        def is_over(self):
            return len(ended) >= 2

    def tell(_, note):
        if note == "temperature 1":
            ended.append(note)

    clock = BothAtTheirEnds(60.0, tell)
    observed = model.observation(None)
    question = Question(model, model.forgiving(), observed, 2000, 0, clock, 1e9)
    answer = tempered(question, None, "as asked")
    assert answer.is_trusted
    known = -0.25 - 0.5 * math.log(4 * math.pi)
    error = answer.log_evidence_standard_error
    assert answer.log_evidence == pytest.approx(known, abs=5 * error)


def test_data_that_no_latent_explains_leave_nothing_to_forget():
    # Seen: log weights that differed by rounding alone counted as remembered.
    text = """(let [x (sample (normal 0 1)) k (sample (flip 0.3))]
                (observe (normal (if k 1 0) 1) 0.4) x)"""
    answer = infer(Model.from_graph(graph_of(text)), method="smc")
    assert answer.is_trusted
    assert not answer.cautions
    assert answer.latents["x"].mean == pytest.approx(0.0, abs=0.15)

"""Tests of flows.front.tempered."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from flows.front.clock import Clock
from flows.front.inference import infer
from flows.front.question import Question
from flows.front.start import start
from flows.front.tempered import _is_lost, _sliced, tempered
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


def test_particles_that_do_not_get_away_from_the_modes_are_lost():
    # Seen: 29 coordinates of topics, sliced one by one at every temperature.
    _, _, report = after_one_temperature(Hamiltonian(16), 0.9)
    model = Model.from_graph(
        graph_of("(let [x (sample (normal 0 1))] (observe (normal x 1) 1) x)")
    )
    observed = model.observation(None)
    clock = Clock(60.0, None)
    question = Question(model, model.forgiving(), observed, 200, 0, clock, 100.0)
    begun = start(question)

    def at(temperature, correlation):
        stage = replace(report.stage, temperature=temperature)
        return replace(report, stage=stage, correlation=correlation)

    assert _is_lost(begun, at(0.1, 0.9))
    assert not _is_lost(None, at(0.1, 0.9))
    assert not _is_lost(begun, at(0.1, 0.1))
    assert not _is_lost(begun, at(0.5, 0.9))


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


@pytest.mark.slow
def test_the_tail_of_a_scale_that_modes_hardly_reach_is_as_long_as_it_is(tmp_path):
    """Counts of a 5 x 5 grid with effects of cells and of neighbours, two scales.

    By four chains of NumPyro's NUTS, 10,000 draws, R-hat 1.002, errors of 0.03 sd.
    """
    right = {"st": (0.1262, 0.0946), "sp": (0.8468, 0.2581)}
    cells = range(25)
    pairs = [(i, i + 1) for i in cells if i % 5 < 4]
    pairs += [(i, i + 5) for i in cells if i < 20]
    expected = (
        "28.194 14.633 24.246 21.724 25.375 21.088 16.502 27.68 18.048 17.219 13.946"
        " 11.009 24.004 17.024 22.027 12.072 28.989 12.956 19.655 5.433 24.821 22.333"
        " 21.748 27.72 29.981"
    )
    inputs = (
        "-0.974 0.663 -0.835 -0.421 -1.214 -0.637 -0.768 -0.233 0.408 -0.213 0.403"
        " 1.528 -1.482 -1.788 -0.047 1.605 0.444 -0.588 -1.251 1.355 -1.554 0.076"
        " -0.294 -0.307 1.499"
    )
    counts = "19 19 22 33 22 28 21 46 37 20 27 28 16 10 19 14 21 6 7 3 13 15 19 26 45"
    ones, others = (" ".join(str(pair[k]) for pair in pairs) for k in (0, 1))
    program = tmp_path / "cells.daphne"
    program.write_text(f"""
        (let [a (sample (normal 0 5))
              b (sample (normal 0 5))
              st (sample (half-normal 1))
              sp (sample (half-normal 1))
              th (foreach 25 [] (sample (normal 0 1)))
              ph (foreach 25 [] (sample (normal 0 1)))]
          (foreach 40 [i [{ones}] j [{others}]]
            (observe (normal (- (get ph i) (get ph j)) 0.5) 0))
          (foreach 25 [t th p ph e [{expected}] x [{inputs}] y [{counts}]]
            (observe (poisson (* e (exp (+ a (* b x) (* st t) (* sp p))))) y))
          [st sp])""")
    answer = infer(Model.compile(program), seed=1)
    assert answer.is_trusted
    for found, (mean, sd) in zip(answer.returned, right.values(), strict=True):
        assert abs(found.mean - mean) < 0.12 * sd
        assert found.sd / sd == pytest.approx(1.0, abs=0.08)


@pytest.mark.slow
def test_the_step_of_a_walk_that_noise_hides_has_its_tail():
    """Given both scales the 30 data are normal: sums over a grid of these are exact."""
    n, generator = 30, np.random.default_rng(4)
    y = np.cumsum(generator.normal(0, 0.3, n)) + generator.normal(0, 1, n)
    y = np.round(y, 2)
    noise, walk = np.meshgrid(
        np.geomspace(0.3, 3, 40), np.geomspace(1e-3, 4, 120), indexing="ij"
    )
    places = np.arange(n)
    covariance = (
        (walk**2)[..., None, None] * np.minimum.outer(places, places)
        + (noise**2)[..., None, None] * np.eye(n)
        + 25.0
    )
    heights = stats.halfcauchy.logpdf(noise) + stats.halfcauchy.logpdf(walk, scale=0.5)
    heights += np.log(noise) + np.log(walk)
    factor = np.linalg.cholesky(covariance)
    rest = np.linalg.solve(factor, np.broadcast_to(y[:, None], (*noise.shape, n, 1)))
    heights -= 0.5 * np.square(rest).sum((-2, -1))
    heights -= np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    weights = np.exp(heights - heights.max())
    weights /= weights.sum()

    answer = infer(
        Model.from_program(f"""
        (defn step [t x noise walk y]
          (let [x (sample (normal x walk))]
            (observe (normal x noise) (get y (+ t 1)))
            x))
        (let [y [{" ".join(map(str, y))}]
              noise (sample (half-cauchy 1))
              walk (sample (half-cauchy 0.5))
              x (sample (normal 0 5))]
          (observe (normal x noise) (get y 0))
          (loop {n - 1} x step noise walk y)
          [noise walk])"""),
        seed=0,
    )
    assert answer.is_trusted
    for found, scale in zip(answer.returned, (noise, walk), strict=True):
        mean = (weights * scale).sum()
        sd = math.sqrt((weights * np.square(scale - mean)).sum())
        assert found.mean == pytest.approx(mean, abs=0.1 * sd)
        assert found.sd == pytest.approx(sd, rel=0.06)

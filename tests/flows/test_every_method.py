"""Tests that every method answers linear-Gaussian programs rightly, errors included.

Flows are the exact posterior with one latent moved by half a deviation, so that nothing
need be trained. Means, covariances and evidence lie within 4 standard errors as the
method itself states them.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cnf.engine import AdaptiveEngine
from flows.inference.importance import importance_particles
from flows.inference.resampling import SCHEMES
from flows.inference.smc.ancestry import Lineages
from flows.inference.smc.annealing import annealed_smc
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import BaseSpace, FreeSpace
from flows.inference.smc.moves import Hamiltonian, RandomWalk
from flows.inference.smc.observes import sequential_smc
from flows.inference.smc.result import SmcResult
from flows.inference.smc.sequence import ObserveSequence
from flows.model.model import Model
from flows.proposals.flow import FlowProposal, proposal_of
from flows.proposals.flow_sequence import FlowSequence
from flows.proposals.prior_sequence import PriorSequence

from ..exact import joint_gaussian
from .inference.targets import check_moments, result_of
from .measurement.test_evaluation import exact_flow

PROGRAMS = Path(__file__).parents[2] / "clj-programs"
SHORT = ["gaussian_tree", "state_space"]
LONG = "state_space of 100 steps"


def text_of(name):
    """Return a program's text; of the long state space, with data along a wave."""
    if name != LONG:
        return (PROGRAMS / f"{name}.daphne").read_text()
    text = (PROGRAMS / "state_space.daphne").read_text()
    data = " ".join(f"{2 + 0.5 * math.sin(t / 10):.3f}" for t in range(100))
    long = re.sub(r"ys \[.*?\]", f"ys [{data}]", text).replace("loop 9", "loop 99")
    assert long.count("2.000") == 1
    return long


@pytest.fixture(scope="module")
def program():
    """Make model, flow and exact answer of a program, each once."""
    made = {}

    def get(name):
        if name not in made:
            graph = Model.from_program(text_of(name), name).graph
            model, flow = exact_flow(graph, 0.5, num_draws=20_000)
            flow.engine = AdaptiveEngine(1e-6)
            data = {each: graph.node(each).observation for each in graph.observed}
            made[name] = model, flow, joint_gaussian(graph).posterior(data)
        return made[name]

    return get


def check(result, exact):
    """Check evidence, means and covariances within 4 standard errors."""
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence - exact.log_evidence) < 4 * error + 1e-3
    place = [exact.names.index(each.name) for each in result.particles.columns]
    check_moments(result, exact.mean[place], exact.covariance[np.ix_(place, place)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in SHORT for kind in ("flow", "mixture")] + [(LONG, "flow")],
)
def test_importance_sampling_gives_the_exact_answer(program, name, kind):
    model, flow, exact = program(name)
    proposal = proposal_of(kind, flow, model)
    particles = importance_particles(
        model, proposal, model.observation(), 10_000, seed=1
    )
    lineages = Lineages.start(particles.log_weights)
    check(SmcResult(particles, lineages, (particles.num_particles,)), exact)


def sequence_of(kind, model, flow):
    data = model.observation()
    if kind == "prior":
        return PriorSequence.from_model(model, data)
    if kind == "at once":
        return ObserveSequence(model, FlowProposal(flow, model), data)
    generator = torch.Generator().manual_seed(99)
    return FlowSequence.fitted(model, flow, data, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize(
    ("name", "kind", "num_particles"),
    [
        *((name, kind, 5000) for name in SHORT for kind in ("flow", "at once")),
        *((name, "prior", 20_000) for name in SHORT),
        (LONG, "flow", 2000),
        (LONG, "prior", 20_000),
    ],
)
def test_sequential_smc_gives_the_exact_answer(
    program, name, kind, num_particles, scheme
):
    model, flow, exact = program(name)
    sequence = sequence_of(kind, model, flow)
    run = sequential_smc(sequence, num_particles, seed=2, scheme=scheme)
    check(result_of(run), exact)


SPACES = {
    "base hmc": lambda model, flow, data: BaseSpace(
        model, FlowProposal(flow, model).differentiable(data), data
    ),
    "free walk": lambda model, flow, data: FreeSpace(
        model, FlowProposal(flow, model), data
    ),
}
SPACES["base walk"] = SPACES["base hmc"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("method", ["base hmc", "base walk", "free walk"])
@pytest.mark.parametrize("name", SHORT)
def test_annealed_smc_gives_the_exact_answer(program, name, method, scheme):
    model, flow, exact = program(name)
    space = SPACES[method](model, flow, model.observation())
    config = AnnealingConfig(
        scheme=scheme,
        move=Hamiltonian(4) if method == "base hmc" else RandomWalk(),
        most_moves=2,
        ess_threshold=0.95,
    )
    check(result_of(annealed_smc(space, 1000, seed=2, config=config)), exact)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_annealed_smc_gives_the_exact_answer_over_100_steps(program, scheme):
    model, flow, exact = program(LONG)
    space = SPACES["base hmc"](model, flow, model.observation())
    config = AnnealingConfig(scheme=scheme, move=Hamiltonian(4), ess_threshold=0.95)
    check(result_of(annealed_smc(space, 1000, seed=2, config=config)), exact)

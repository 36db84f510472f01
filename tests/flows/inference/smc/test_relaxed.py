"""Tests of flows.inference.smc.relaxed, against normal probabilities of bounds."""

import math

import pytest
import torch
from scipy import integrate, stats

import flows
from flows.inference.proposal import PriorProposal
from flows.inference.smc.annealing import init, step
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import FreeSpace
from flows.inference.smc.moves import RandomWalk
from flows.inference.smc.relaxed import RelaxedSpace, relaxed, settled

from ..targets import seeded


def space_of(text):
    model = flows.Model.from_program(text).forgiving()
    return FreeSpace(model, PriorProposal(model), model.observation(None))


def windows(low, high, num=2):
    return f"""(let [z (foreach {num} [] (sample (normal 0 1)))]
      (foreach {num} [zi z] (observe (dirac (and (> zi {low}) (< zi {high}))) true))
      (observe (normal (first z) 1) 1.2)
      z)"""


def test_where_enough_draws_have_a_density_nothing_is_softened():
    space = space_of(windows(-1, 1))
    assert relaxed(space, generator=seeded(0)) is space


def test_a_bound_that_is_broken_costs_its_floor_and_the_rest_is_as_it_was():
    proper = space_of(windows(2.0, 3.0))
    soft = relaxed(proper, generator=seeded(0))
    assert isinstance(soft, RelaxedSpace)
    assert soft.floors.tolist() == [-20.0, -20.0, -math.inf]
    places = torch.tensor([[2.5, 2.5], [0.0, 2.5], [1.0, -1.0]]).double()
    found, told = soft.at(places), proper.at(places)
    assert torch.equal(told.log_weight == -math.inf, torch.tensor([False, True, True]))
    normal = torch.tensor([stats.norm.logpdf(1.2, z, 1) for z in (2.5, 0.0, 1.0)])
    expected = normal + torch.tensor([0.0, -20.0, -40.0])
    torch.testing.assert_close(found.log_weight, expected.double())
    assert torch.equal(found.log_reference, told.log_reference)


def test_particles_that_still_break_a_bound_weigh_nothing_at_the_end():
    proper = space_of(windows(2.0, 3.0))
    soft = RelaxedSpace(proper, torch.tensor([-1.0, -1.0, -math.inf]).double())
    config = AnnealingConfig(move=RandomWalk())
    generator = seeded(1)
    state = init(soft, 4000, config, generator)
    while state.temperature < 1.0:
        state, report = step(state, soft, config, generator)
    is_in = proper.at(state.point.coordinates).log_weight > -math.inf
    assert 0.0 < is_in.double().mean() < 0.5
    state, report = settled(state, report, soft, config, generator)
    inside = (report.result.particles.latents > 2.0).all()
    assert bool(inside)
    bound = stats.norm.sf(2.0) - stats.norm.sf(3.0)
    inner, _ = integrate.quad(
        lambda z: stats.norm.pdf(z) * stats.norm.pdf(1.2, z, 1), 2.0, 3.0
    )
    assert report.result.log_evidence == pytest.approx(math.log(bound * inner), abs=0.3)


def test_rounded_values_are_answered_though_no_draw_of_the_prior_rounds_to_them():
    values = [9, 10, 12, 11]
    text = f"""(let [mu (sample (normal 10 5))]
      (foreach 4 [r {values}]
        (let [z (sample (normal mu 1))]
          (observe (uniform (- z 0.5) (+ z 0.5)) r)))
      mu)"""
    answer = flows.infer(
        flows.Model.from_program(text), num_particles=3000, method="smc"
    )

    def density(mu):
        terms = [stats.norm.cdf(r + 0.5, mu, 1) - stats.norm.cdf(r - 0.5, mu, 1)
                 for r in values]  # fmt: skip
        return stats.norm.pdf(mu, 10, 5) * math.prod(terms)

    mass, _ = integrate.quad(density, 5, 16)
    mean, _ = integrate.quad(lambda mu: mu * density(mu) / mass, 5, 16)
    assert answer.is_trusted
    assert abs(answer.log_evidence - math.log(mass)) < 0.25
    assert abs(answer.returned.mean - mean) < 5 * answer.returned.mc_error

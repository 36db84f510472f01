"""Tests of flows.front.missed_mass."""

import math
from dataclasses import dataclass

import pytest
import torch

import flows
from flows.front.clock import Clock
from flows.front.missed_mass import missed_mass
from flows.front.question import Question
from flows.inference.importance import importance_particles
from flows.inference.proposal import PriorProposal, ProposalDraw
from flows.model.model import Model
from tests.flows.model.programs import graph_of

HEAVY = "(let [x (sample (student-t 3))] (observe (normal 0 1000) 0.0) x)"


LIGHT = "(let [x (sample (normal 0 1))] (observe (normal x 3) 0.0) x)"


@dataclass(frozen=True)
class StandardNormal:
    """Draws that never see what lies beyond 4 or 5."""

    nuisance_dim = 0

    def log_prob(self, latents, nuisances, observed):
        return (-0.5 * latents.square() - 0.5 * math.log(2 * math.pi)).sum(1)

    def rsample_and_log_prob(self, observed, num_particles, *, generator):
        rows = torch.randn(num_particles, 1, generator=generator, dtype=torch.float64)
        none = rows.new_zeros(num_particles, 0)
        return ProposalDraw(rows, none, self.log_prob(rows, none, observed))


def question_of(text, seconds=math.inf):
    model = Model.from_graph(graph_of(text))
    observed = model.observation(None)
    return Question(model, model.forgiving(), observed, 2000, 0, Clock(seconds), 1000)


def missed(question, proposal, num=2000):
    particles = importance_particles(
        question.target, proposal, question.observed, num, seed=0
    )
    return missed_mass(question, proposal, particles)


def test_a_tail_that_no_draw_reached_is_found_by_moves():
    (caution,) = missed(question_of(HEAVY), StandardNormal())
    assert "missed a part of the posterior" in str(caution)


@pytest.mark.parametrize(("text", "is_fine"), [(HEAVY, False), (LIGHT, True)])
def test_draws_of_a_flow_are_trusted_if_moves_find_nothing_beyond(text, is_fine):
    model = Model.from_graph(graph_of(text))
    answer = flows.infer(model, flow=StandardNormal(), method="flow", seed=3)
    assert answer.is_trusted == is_fine
    found = any("missed a part" in str(caution) for caution in answer.cautions)
    assert found == (not is_fine)


def test_draws_that_reach_everything_have_missed_nothing():
    question = question_of(HEAVY)
    assert missed(question, PriorProposal(question.target)) == []


@pytest.mark.parametrize("num", [20, 200])
def test_few_draws_have_missed_no_more_than_few_can_show(num):
    question = question_of("(let [x (sample (normal 0 1))] (observe (normal x 1) 1) x)")
    assert missed(question, PriorProposal(question.target), num) == []


def test_a_budget_that_is_used_up_ends_the_look():
    assert missed(question_of(HEAVY, seconds=0.0), StandardNormal()) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_ridge_that_opens_into_a_tail_is_answered_as_by_quadrature(seed):
    """C (1 - u) is known well, c alone the less the nearer u comes to 1."""
    text = """(let [u (sample (beta 4 2)) c (sample (normal 0 10))]
                (foreach 5 [y [0.31 0.35 0.28 0.3 0.33]]
                  (observe (normal (* c (- 1 u)) 0.05) y))
                c)"""
    u = torch.linspace(0.0005, 0.9995, 500, dtype=torch.float64)[:, None]
    c = torch.linspace(-60.0, 60.0, 12_001, dtype=torch.float64)[None]
    data = torch.tensor([0.31, 0.35, 0.28, 0.3, 0.33], dtype=torch.float64)
    terms = 3 * u.log() + (1 - u).log() - 0.5 * (c / 10.0) ** 2
    for y in data:
        terms = terms - 0.5 * ((c * (1 - u) - y) / 0.05) ** 2
    weights = (terms - terms.max()).exp()
    mean = float((weights * c).sum() / weights.sum())
    sd = math.sqrt(float((weights * c**2).sum() / weights.sum()) - mean**2)
    answer = flows.infer(Model.from_graph(graph_of(text)), seed=seed)
    assert answer.is_trusted
    assert answer.returned.mean == pytest.approx(mean, abs=0.1 * sd)
    assert answer.returned.sd == pytest.approx(sd, rel=0.15)

"""Tests of flows.front.question."""

import math

import torch

from flows.front import question
from flows.front.clock import Clock
from flows.front.question import BATCH, Question
from flows.inference.proposal import PriorProposal
from flows.marginal.target import target_of
from flows.model.model import Model
from tests.flows.model.programs import graph_of


def question_of(seconds):
    text = "(let [x (sample (normal 0 1))] (observe (normal x 1) 1) x)"
    model = Model.from_graph(graph_of(text))
    clock = Clock(seconds)
    observed = model.observation(None)
    return Question(model, model.forgiving(), observed, 5000, 0, clock, 1000)


def test_draws_end_with_the_batch_in_which_the_time_is_up():
    assert question_of(0.0).drawn(5000).num_particles == BATCH
    assert question_of(math.inf).drawn(5000).num_particles == 5000


def test_batches_are_small_where_tables_are_large(monkeypatch):
    text = """(let [r (sample (beta 1 1)) k (sample (flip r))]
                (observe (normal (if k 1 0) r) 1) k)"""
    model = Model.from_graph(graph_of(text))
    target, observed = target_of(model), model.observation()
    hurried = Question(model, target, observed, 5000, 0, Clock(0.0), 1000)
    assert hurried.drawn(5000).num_particles == BATCH
    monkeypatch.setattr(question, "_MOST_ENTRIES", 100)
    assert target.tables.elimination.largest == 2
    assert target.tables.row_entries == 5  # r, k and what is observed of k
    assert hurried.drawn(5000).num_particles == 100 // 5


def test_draws_within_the_time_are_those_of_all_batches():
    asked = question_of(1000.0)
    proposal = PriorProposal(asked.target)
    some = asked.weighed(proposal, 2500, seed=3)
    assert some.num_particles == 2500
    again = asked.weighed(proposal, 2500, seed=3)
    assert torch.equal(some.latents, again.latents)

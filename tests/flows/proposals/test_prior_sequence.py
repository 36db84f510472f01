"""Tests of flows.proposals.prior_sequence against exact answers of whole programs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from flows.errors import ModelError
from flows.inference.smc.observes import sequential_smc
from flows.model.model import Model
from flows.proposals.prior_sequence import PriorSequence

from ...exact import joint_gaussian
from ..inference.targets import check_moments, result_of
from ..inference.unbiased import check_unbiased
from ..model.programs import graph_of

PROGRAMS = Path(__file__).parents[3] / "clj-programs"


def sequence_of(text):
    graph = graph_of(text)
    model = Model.from_graph(graph)
    return graph, PriorSequence.from_model(model, model.observation())


def named(name):
    return sequence_of((PROGRAMS / f"{name}.daphne").read_text())


def check_evidence(result, exact):
    error = result.log_evidence_standard_error
    assert 0 < error < 0.1
    assert abs(result.log_evidence - exact) < 4 * error


def labelled(graph, sequence):
    return [
        ([graph.labels[name] for name in names], observe is not None)
        for names, observe in sequence.steps
    ]


def test_a_latent_is_drawn_with_the_first_observe_that_depends_on_it():
    graph, sequence = sequence_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal a 1))
              c (sample (normal 3 1))
              d (sample (normal c 1))
              unseen (sample (normal d 1))]
          (observe (normal a 1) 0.1)
          (observe (normal (+ b d) 1) 0.2)
          (observe (normal a 2) 0.3)
          unseen)"""
    )
    expected = [["a"], ["b", "c", "d"], ["unseen"]]
    assert labelled(graph, sequence) == [(names, True) for names in expected]
    generator = torch.Generator().manual_seed(0)
    state = sequence.start(10, generator=generator).state
    assert (state[:, 0] != 0).all()
    assert (state[:, 1:] == 0).all()
    later = sequence.extend(state, 1, generator=generator).state
    assert torch.equal(later[:, 0], state[:, 0])
    assert (later[:, 1:4] != 0).all()
    assert (later[:, 4] == 0).all()
    assert (sequence.extend(later, 2, generator=generator).state[:, 4] != 0).all()


def test_without_observes_all_is_drawn_at_once_and_the_evidence_is_1():
    graph, sequence = sequence_of("(let [a (sample (normal 0 1))] a)")
    assert labelled(graph, sequence) == [(["a"], False)]
    result = result_of(sequential_smc(sequence, 100, seed=0))
    assert result.log_evidence == 0.0


@pytest.mark.parametrize(
    ("name", "num_particles"), [("gaussian_tree", 50_000), ("state_space", 20_000)]
)
def test_linear_gaussian_programs_get_the_exact_answer(name, num_particles):
    graph, sequence = named(name)
    data = {each: graph.node(each).observation for each in graph.observed}
    exact = joint_gaussian(graph).posterior(data)
    result = result_of(sequential_smc(sequence, num_particles, seed=1))
    check_evidence(result, exact.log_evidence)
    check_moments(result, exact.mean, exact.covariance)


def test_the_evidence_is_unbiased_over_1000_repetitions():
    """The mean of Z / exact over 1,000 runs of 50 particles is 1 within 4 errors."""
    graph, sequence = sequence_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal a 0.5))
              c (sample (normal b 0.5))]
          (observe (normal a 0.7) 0.9)
          (observe (normal b 0.7) -0.2)
          (observe (normal c 0.7) 1.4)
          c)"""
    )
    data = {each: graph.node(each).observation for each in graph.observed}
    exact = joint_gaussian(graph).posterior(data).log_evidence
    check_unbiased(
        lambda seed: sequential_smc(sequence, 50, seed=seed),
        exact,
        largest_error=0.02,
        least_resampled=500,
    )


def test_discrete_latents_are_carried_along():
    """The hidden Markov model, by the forward algorithm over its nine states."""
    _, sequence = named("hidden_markov_model")
    transitions = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])
    log_probs = np.full(3, -math.log(3))
    for y in [1.7, 2.2, 0.1, -1.9, -2.3, -1.6, 0.3, 1.9]:
        step = log_probs[:, None] + np.log(transitions)
        log_probs = logsumexp(step, 0) + norm.logpdf(y, [-2.0, 0.0, 2.0], 1.0)
    result = result_of(sequential_smc(sequence, 20_000, seed=1))
    check_evidence(result, float(logsumexp(log_probs)))
    last = result.particles.latents[:, -1:]
    share = (last == 2.0).double()
    found = float(result.particles.normalized_weights @ share[:, 0])
    exact = float(np.exp(log_probs[2] - logsumexp(log_probs)))
    assert abs(found - exact) < 4 * float(result.standard_error(share))


def test_observes_under_if_count_where_their_branch_is_taken():
    _, sequence = named("sensor_failure")
    result = result_of(sequential_smc(sequence, 50_000, seed=1))
    working = math.log(0.9) + norm.logpdf(24, 20, math.sqrt(26))
    broken = math.log(0.1) + norm.logpdf(24, 0, 30)
    evidence = float(logsumexp([working, broken]))
    check_evidence(result, evidence)
    found = float(result.particles.mean()[0])
    error = float(result.mean_standard_error()[0])
    assert abs(found - math.exp(broken - evidence)) < 4 * error
    assert error < 0.005


def test_a_parameter_without_meaning_is_named():
    _, sequence = sequence_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal 0 1))]
          (observe (normal b 1) 0.0)
          (observe (normal 0 a) 1.0)
          a)"""
    )
    with pytest.raises(ModelError, match=r"standard deviation .* with a = -"):
        result_of(sequential_smc(sequence, 100, seed=0))
    _, sequence = sequence_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal 0 a))]
          (observe (normal b 1) 0.0)
          a)"""
    )
    with pytest.raises(ModelError, match=r"standard deviation .* at draw"):
        result_of(sequential_smc(sequence, 100, seed=0))

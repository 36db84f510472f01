"""Tests of flows.measurement.predictive against closed forms."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from flows.errors import InferenceError
from flows.inference.importance import importance_particles
from flows.inference.particles import Particles
from flows.inference.proposal import PriorProposal
from flows.measurement.predictive import (
    PosteriorPredictive,
    posterior_predictive,
)
from flows.model.model import Model

from ...exact import joint_gaussian
from ..model.programs import PROGRAMS, graph_of

NORMAL_MEAN = """
(let [mean (sample (normal 0 2))
      y (observe (normal mean 1) 2.0)]
  mean)"""
NUM = 20_000


def predicted(text):
    graph = graph_of(text)
    model = Model.from_graph(graph)
    data = model.observation()
    particles = importance_particles(model, PriorProposal(model), data, NUM, seed=2)
    generator = torch.Generator().manual_seed(3)
    found = posterior_predictive(model, particles, data, NUM, generator=generator)
    return graph, particles, found


def test_new_data_of_a_normal_mean_follow_the_closed_form():
    # The posterior is N(1.6, 0.8) (the program's head says so), new data N(1.6, 1.8).
    _, particles, found = predicted(NORMAL_MEAN)
    (number,) = found.numbers
    law = stats.norm(1.6, math.sqrt(1.8))
    error = law.std() / math.sqrt(particles.totals.ess)
    assert abs(number.mean - law.mean()) < 5 * error
    assert abs(number.sd - law.std()) < 5 * error
    for quantile, level in ((number.quantile_05, 0.05), (number.quantile_95, 0.95)):
        spread = math.sqrt(level * (1 - level)) / law.pdf(law.ppf(level))
        assert abs(quantile - law.ppf(level)) < 5 * error * spread
    assert abs(number.level - law.cdf(2.0)) < 5 * error
    assert number.observed == 2.0
    assert sum(number.counts) == NUM


def test_new_data_of_a_tree_have_the_moments_of_the_joint_normal():
    graph, particles, found = predicted(PROGRAMS["gaussian_tree"])
    posterior = joint_gaussian(graph).posterior(
        {name: graph.node(name).observation for name in graph.observed}
    )
    error = 5 / math.sqrt(particles.totals.ess)
    for name, number in zip(graph.observed, found.numbers, strict=True):
        # Every observation is its one parent plus N(0, 1).
        (parent,) = graph.parents(name)
        place = posterior.names.index(parent)
        sd = math.sqrt(posterior.covariance[place, place] + 1.0)
        assert abs(number.mean - posterior.mean[place]) < error * sd
        assert abs(number.sd - sd) < error * sd


def test_counts_are_those_of_a_histogram_and_ties_count_half():
    model = Model.from_graph(graph_of("(observe (flip (sample (beta 1 1))) true)"))
    latents = torch.full((4, 1), 0.5, dtype=torch.float64)
    weights = torch.zeros(4, dtype=torch.float64)
    particles = Particles(latents, weights, ())
    generator = torch.Generator().manual_seed(0)
    data = model.observation()
    found = posterior_predictive(model, particles, data, 1000, generator=generator)
    (number,) = found.numbers
    assert number.counts[0] + number.counts[-1] == 1000
    assert number.level == pytest.approx(1 - number.mean / 2)
    assert np.isclose(number.counts[-1] / 1000, number.mean)


def test_particles_without_weight_predict_nothing():
    model = Model.from_graph(graph_of(NORMAL_MEAN))
    weights = torch.full((4,), -math.inf, dtype=torch.float64)
    particles = Particles(torch.zeros((4, 1), dtype=torch.float64), weights, ())
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InferenceError):
        posterior_predictive(
            model, particles, model.observation(), 10, generator=generator
        )


def of_a_fixed_latent(text, value):
    model = Model.from_graph(graph_of(text))
    latents = torch.full((4, 1), value, dtype=torch.float64)
    particles = Particles(latents, torch.zeros(4, dtype=torch.float64), ())
    generator = torch.Generator().manual_seed(0)
    found = posterior_predictive(
        model, particles, model.observation(), NUM, generator=generator
    )
    (number,) = found.numbers
    return number


def test_new_counts_have_shares_beside_that_of_the_data():
    number = of_a_fixed_latent("(observe (poisson (sample (gamma 2 1))) 14)", 2.5)
    assert number.value == "14"
    assert list(number.probabilities) == [str(k) for k in range(15)]
    assert number.probabilities["14"] < 1e-3
    for text, share in number.probabilities.items():
        mass = stats.poisson.pmf(int(text), 2.5)
        assert share == pytest.approx(mass, abs=5 * math.sqrt(mass / NUM) + 1e-4)
    assert np.allclose(np.diff(number.edges), 1.0)


def test_new_categories_have_shares_by_their_names_and_no_mean():
    number = of_a_fixed_latent(
        "(let [p (sample (beta 1 1))]"
        " (observe (categorical [[:red p] [:blue (- 1 p)]]) :blue))",
        0.3,
    )
    plain = PosteriorPredictive((number,), NUM).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False))
    assert number.value == ":blue"
    assert list(number.probabilities) == [":red", ":blue"]
    assert number.probabilities[":red"] == pytest.approx(0.3, abs=0.02)
    assert math.isnan(number.mean)


def test_measured_data_and_wide_counts_have_a_histogram_alone():
    assert (
        of_a_fixed_latent(
            "(observe (normal (sample (normal 0 1)) 1) 1.0)", 0.0
        ).probabilities
        is None
    )
    wide = of_a_fixed_latent("(observe (poisson (sample (gamma 2 1))) 900)", 900.0)
    assert wide.probabilities is None
    assert sum(wide.counts) == NUM

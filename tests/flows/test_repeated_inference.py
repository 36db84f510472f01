"""Tests of `infer` by many repetitions: what it says is right on average."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import flows
from tests.flows.model.programs import graph_of

pytestmark = pytest.mark.long


def model_from(text):
    return flows.Model.from_graph(graph_of(text))


CONJUGATE = """(let [m (sample (normal 0 3)) b (sample (normal 0 3))]
  (observe (normal (+ m b) 1) 1.5) (observe (normal m 1) 0.5) m)"""

THREE = {
    "a regression": """(let [a (sample (normal 0 5)) b (sample (normal 0 5))
        s (sample (gamma 3 2))]
      (foreach 8 [x [0 1 2 3 4 5 6 7]] (observe (normal (+ a (* b x)) s) 0.0))
      [a b s])""",
    "a mixture": """(let [low (sample (normal 0 2)) gap (sample (half-normal 4))
        share (sample (beta 2 2))]
      (foreach 6 [y (range 6)]
        (let [k (sample (flip share))]
          (observe (normal (if k (+ low gap) low) 0.7) 0.0)))
      [low gap share])""",
    "a hierarchy": """(let [mu (sample (normal 0 3)) tau (sample (gamma 2 1))
        theta (foreach 4 [] (sample (normal mu tau)))]
      (foreach 4 [t theta] (observe (normal t 1) 0.0))
      [mu tau (get theta 0)])""",
}


@pytest.mark.parametrize(
    ("method", "number"), [("auto", 1000), ("laplace", 300), ("smc", 50)]
)
def test_evidence_of_a_conjugate_model_is_unbiased(method, number):
    """The mean of the estimate, not of its log, is the evidence."""
    model = model_from(CONJUGATE)
    covariance = np.array([[19.0, 9.0], [9.0, 10.0]])
    exact = stats.multivariate_normal([0, 0], covariance).logpdf([1.5, 0.5])
    ratios = np.array(
        [
            math.exp(
                flows.infer(
                    model, method=method, num_particles=500, seed=seed
                ).log_evidence
                - exact
            )
            for seed in range(number)
        ]
    )
    error = ratios.std() / math.sqrt(number)
    assert error < 0.02
    assert abs(ratios.mean() - 1.0) < 4.0 * error


@pytest.mark.parametrize("name", THREE)
def test_ranks_of_what_was_drawn_are_uniform(name):
    """Simulation-based calibration (Talts et al. 2018), of the chosen method."""
    model = model_from(THREE[name])
    number = 60
    draws = model.sample(number, generator=torch.Generator().manual_seed(0))
    continuous = [
        column
        for v in model.layout.latents
        if not model.graph.node(v.name).is_discrete
        for column in range(v.start, v.stop)
    ]
    ranks = []
    for seed in range(number):
        answer = flows.infer(model, draws.observed[seed], num_particles=2000, seed=seed)
        weights = answer.particles.normalized_weights
        below = answer.particles.latents < draws.latents[seed]
        ranks.append((weights @ below.to(weights))[continuous])
    for column in torch.stack(ranks).T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dimensions", [2, 10])
def test_two_far_modes_get_their_masses_whatever_the_seed(dimensions):
    """Modes 8 sd apart with masses 0.7 and 0.3, under a prior ten times as wide.

    An exponential distribution with rate r has the density r at 0.
    """
    gap = 4.0 / math.sqrt(dimensions)
    names = [f"z{i}" for i in range(dimensions)]
    latents = " ".join(f"{n} (sample (normal 0 10))" for n in names)
    near, far = (
        " ".join(f"(square (- {n} {centre}))" for n in names) for centre in (-gap, gap)
    )
    text = f"""(defn square [x] (* x x))
      (let [{latents}
            near (* 0.7 (exp (* -0.5 (+ {near}))))
            far (* 0.3 (exp (* -0.5 (+ {far}))))]
        (observe (exponential (+ near far 1e-300)) 0.0)
        z0)"""
    model = model_from(text)
    for seed in range(8):
        answer = flows.infer(model, seed=seed)
        weights = answer.particles.normalized_weights
        share = float(weights[answer.particles.latents.sum(1) > 0.0].sum())
        assert share == pytest.approx(0.3, abs=0.05), (seed, answer.method)
        assert answer.is_trusted


def test_a_funnel_of_ten_dimensions_is_right():
    """V ~ N(0, 3), nine x_i ~ N(0, exp(v / 2)); the evidence is 1 without data."""
    names = " ".join(f"x{i} (sample (normal 0 (exp (/ v 2))))" for i in range(9))
    model = model_from(
        f"(let [v (sample (normal 0 3)) {names}] (observe (normal v 3) 0.0) v)"
    )
    answer = flows.infer(model, seed=0, method="smc")
    assert answer.log_evidence == pytest.approx(
        stats.norm.logpdf(0, 0, math.sqrt(18)), abs=0.1
    )
    assert answer.returned.mean == pytest.approx(0.0, abs=0.25)
    assert answer.returned.sd == pytest.approx(math.sqrt(4.5), rel=0.08)

"""Tests of flows.inference.covering: bent posteriors, against quadrature along them."""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from flows.front.inference import infer
from flows.inference.covering import covering
from flows.model.model import Model
from tests.flows.model.programs import graph_of

normal = stats.norm.logpdf
ACROSS = np.linspace(-8.0, 8.0, 321)

RING = """(let [x (sample (normal 0 30)) y (sample (normal 0 30))]
  (observe (normal (+ (* x x) (* y y)) 0.05) 4) [x y])"""
CRESCENTS = """(let [x (sample (normal 0 30)) y (sample (normal 0 30))
      gap (- (abs x) 2)]
  (observe (normal (sqrt (+ (* gap gap) (* y y))) 0.02) 1)
  (observe (normal (abs x) 0.5) 3) [x y])"""
BANANA = """(let [x (sample (normal 0 1)) y (sample (normal 0 10))]
  (observe (normal (- y (* x x)) 0.005) 1) [x y])"""


def around(centre, radius, width):
    """Places along a circle and across it, with their log area."""
    angle = np.linspace(-math.pi, math.pi, 4_000, endpoint=False)[:, None]
    r = radius + width * ACROSS
    cell = (angle[1, 0] - angle[0, 0]) * width * (ACROSS[1] - ACROSS[0])
    return centre + r * np.cos(angle), r * np.sin(angle), np.log(r * cell) + 0 * angle


def ring():
    x, y, log_area = around(0.0, 2.0, 0.0125)
    log_joint = normal(x, 0, 30) + normal(y, 0, 30)
    return x, y, log_joint + normal(4, x * x + y * y, 0.05) + log_area


def crescents():
    x, y, log_area = around(2.0, 1.0, 0.02)
    log_joint = normal(x, 0, 30) + normal(y, 0, 30) + normal(3, x, 0.5)
    log_joint += normal(1, np.hypot(x - 2, y), 0.02) + log_area
    return (
        np.concatenate([part, sign * part])
        for part, sign in zip((x, y, log_joint), (-1, 1, 1), strict=True)
    )


def banana():
    x = np.linspace(-6.0, 6.0, 4_001)[:, None]
    y = 1.0 + x * x + 0.005 * ACROSS
    log_joint = normal(x, 0, 1) + normal(y, 0, 10) + normal(1, y - x * x, 0.005)
    area = 0.005 * (ACROSS[1] - ACROSS[0]) * (x[1, 0] - x[0, 0])
    return x + 0 * y, y, log_joint + math.log(area)


@lru_cache
def by_quadrature(places):
    """Log evidence, means and sds."""
    x, y, log_mass = places()
    highest = log_mass.max()
    mass = np.exp(log_mass - highest)
    evidence = mass.sum()
    mass /= evidence
    means = [float((mass * z).sum()) for z in (x, y)]
    sds = [
        float((mass * (z - m) ** 2).sum()) ** 0.5
        for z, m in zip((x, y), means, strict=True)
    ]
    return float(highest + math.log(evidence)), means, sds


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("program", "places"), [(RING, ring), (CRESCENTS, crescents), (BANANA, banana)]
)
def test_a_thin_bent_posterior_is_covered(program, places, seed):
    """No normal has its shape, and its width is a thousandth of the prior's or less."""
    log_evidence, means, sds = by_quadrature(places)
    found = infer(Model.from_program(program), seed=seed)
    assert found.method == "laplace"
    assert found.is_trusted
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(log_evidence, abs=4 * error + 0.01)
    for figures, mean, sd in zip(found.returned, means, sds, strict=True):
        assert figures.mean == pytest.approx(mean, abs=5 * figures.mc_error)
        assert figures.sd == pytest.approx(sd, rel=0.06)


def test_draws_of_the_prior_that_are_impossible_are_left_out():
    # Seen: "log weights that are no numbers", at once, where most draws of the prior
    # cannot give the data.
    text = """(let [a (sample (uniform 0 10)) b (sample (uniform a 10))]
      (observe (uniform a b) 4) (observe (uniform a b) 4.2) (observe (uniform a b) 4.4)
      (observe (uniform a b) 3.8) [a b])"""
    answer = infer(Model.from_graph(graph_of(text)))
    evidence, _ = integrate.dblquad(
        lambda b, a: 0.1 / (10.0 - a) / (b - a) ** 4, 0.0, 3.8, 4.4, 10.0
    )
    error = answer.log_evidence_standard_error
    assert answer.log_evidence == pytest.approx(math.log(evidence), abs=5 * error)


@pytest.mark.parametrize("seed", range(3))
def test_no_component_is_made_of_copies_of_one_row(seed):
    # Seen: a component narrower than doubles are apart, whose draws weighed twenty
    # times what they should.
    model = Model.from_program(BANANA)
    mixture = covering(
        model, model.observation(), generator=torch.Generator().manual_seed(seed)
    )
    widths = mixture.factors.diagonal(dim1=1, dim2=2)
    assert float(widths.min()) > 1e-5

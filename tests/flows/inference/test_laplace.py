"""Tests of flows.inference.laplace: modes, and their masses."""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import stats

from flows.front.inference import infer
from flows.inference.laplace import laplace_mixture
from flows.model.model import Model

SUM, PRODUCT = 1.285, 0.102
EXCHANGED = f"""(let [a (sample (lognormal 0 1)) b (sample (lognormal -2 1))]
  (observe (normal (+ a b) 0.05) {SUM}) (observe (normal (* a b) 0.01) {PRODUCT})
  [a b])"""
"""What is observed does not change if a and b are exchanged; the prior does."""


@lru_cache
def by_quadrature():
    """Evidence, means, sds, and mass of the mode with a below b, on a grid of logs."""
    grid = np.linspace(-4.5, 1.5, 1201)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    a, b = np.exp(u), np.exp(v)
    log_joint = (
        stats.norm.logpdf(u, 0, 1)
        + stats.norm.logpdf(v, -2, 1)
        + stats.norm.logpdf(SUM, a + b, 0.05)
        + stats.norm.logpdf(PRODUCT, a * b, 0.01)
    )
    mass = np.exp(log_joint) * (grid[1] - grid[0]) ** 2
    evidence = mass.sum()
    mass /= evidence
    means = [(mass * x).sum() for x in (a, b)]
    sds = [
        math.sqrt((mass * (x - mean) ** 2).sum())
        for x, mean in zip((a, b), means, strict=True)
    ]
    return math.log(evidence), means, sds, mass[a < b].sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_mode_of_little_mass_is_found_and_kept(seed):
    """It lies where 8 % of the prior's draws are, and makes most of the spread of b."""
    log_evidence, means, sds, small = by_quadrature()
    assert 1e-3 < small < 1e-2
    found = infer(Model.from_program(EXCHANGED), method="laplace", seed=seed)
    assert found.is_trusted
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(log_evidence, abs=4 * error)
    weights = found.particles.normalized_weights
    rows = found.particles.latents
    mass = float(weights[rows[:, 0] < rows[:, 1]].sum())
    assert mass == pytest.approx(small, rel=0.3)
    for figures, mean, sd in zip(found.returned, means, sds, strict=True):
        assert figures.mean == pytest.approx(mean, abs=5 * figures.mc_error)
        assert figures.sd == pytest.approx(sd, rel=0.15)


def test_a_mode_counts_by_the_evidence_around_it():
    """Two normals of the same height, one twice as wide: shares 1 : 2."""
    program = """(let [x (sample (normal 0 50))
      z (* 0.5 (square (/ (- x 20) 1))) y (* 0.5 (square (/ (+ x 20) 2)))]
      (observe (exponential (+ (exp (- 0 z)) (exp (- 0 y)) 1e-300)) 0.0) x)"""
    model = Model.from_program("(defn square [x] (* x x)) " + program)
    found = laplace_mixture(
        model, model.observation(), generator=torch.Generator().manual_seed(0)
    )
    places = found.locations[:, 0]
    assert sorted(places.round().tolist()) == [-20.0, 20.0]
    shares = found.log_shares.exp()
    assert float(shares[places < 0.0]) == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("seed", range(8))
def test_a_narrow_mode_is_found_where_one_draw_in_a_thousand_climbs_to_it(seed):
    """Half of the mass is in a normal a hundred times narrower than the prior."""
    program = """(let [x (sample (normal 0 3)) y (sample (normal 0 3))
      wide (+ (square (- x 2)) (square (- y 2)))
      thin (/ (+ (square (+ x 2)) (square (+ y 2))) 0.0009)]
      (observe (exponential (+ (exp (* -0.5 wide)) (/ (exp (* -0.5 thin)) 0.0009)
                               1e-300)) 0.0) x)"""
    found = infer(Model.from_program("(defn square [x] (* x x)) " + program), seed=seed)
    assert found.is_trusted
    masses = [math.exp(-4 / v) / v for v in (10.0, 9.0009)]
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(math.log(sum(masses)), abs=4 * error)
    weights, x = found.particles.normalized_weights, found.particles.latents[:, 0]
    share = masses[1] / sum(masses)
    assert float(weights[x < -1.5].sum()) == pytest.approx(share, abs=0.05)


def test_precisions_without_a_scale_are_answered():
    """Groups as BUGS writes them: hardly a draw of the prior is of this world.

    Between groups and within them variances are v / n and s given precisions, so that
    the evidence is an integral over two numbers.
    """
    size, num = 6, 5
    values = np.random.default_rng(3).normal(size=(size, num)) * 2.0
    values += 240.0 + 8.0 * np.random.default_rng(4).normal(size=(size, 1))
    text = "[" + " ".join(f"[{' '.join(f'{y:.3f}' for y in row)}]" for row in values)
    program = f"""(let [mu (sample (normal 0 1000)) ta (sample (gamma 0.001 0.001))
        tc (sample (gamma 0.001 0.001))]
      (foreach {size} [ys {text}]]
        (let [a (sample (normal mu (/ 1 (sqrt ta))))]
          (foreach {num} [y ys] (observe (normal a (/ 1 (sqrt tc))) y))))
      [(log ta) (log tc)])"""
    answer = infer(Model.from_program(program), seed=0)

    values = values.round(3)
    means = values.mean(1)
    inside = ((values - means[:, None]) ** 2).sum()
    grid = np.linspace(-12.0, 8.0, 801)
    log_ta, log_tc = np.meshgrid(grid, grid, indexing="ij")
    within = np.exp(-log_tc)
    v = np.exp(-log_ta) + within / num
    along = v + size * 1e6
    common = size * means.mean() ** 2
    log_mass = sum(
        stats.gamma.logpdf(np.exp(x), 0.001, scale=1e3) + x for x in (log_ta, log_tc)
    )
    log_mass += -0.5 * (inside / within + size * math.log(num))
    log_mass += -0.5 * size * (num - 1) * np.log(2 * np.pi * within)
    log_mass += -0.5 * ((means**2).sum() - common) / v - 0.5 * common / along
    log_mass += -0.5 * (size - 1) * np.log(v) - 0.5 * np.log(along)
    log_mass += -0.5 * size * math.log(2 * math.pi)
    mass = np.exp(log_mass - log_mass.max())
    evidence = log_mass.max() + math.log(mass.sum() * (grid[1] - grid[0]) ** 2)
    assert answer.is_trusted, answer.why
    assert answer.log_evidence == pytest.approx(
        evidence, abs=5 * answer.log_evidence_standard_error
    )
    mass /= mass.sum()
    for found, x in zip(answer.returned, (log_ta, log_tc), strict=True):
        mean = (mass * x).sum()
        sd = math.sqrt((mass * (x - mean) ** 2).sum())
        assert found.mean == pytest.approx(mean, abs=0.15 * sd)
        assert found.sd == pytest.approx(sd, rel=0.15)

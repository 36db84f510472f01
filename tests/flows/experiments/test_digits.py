"""Tests of flows.experiments.digits: a small decoder, and sums that know no model."""

import math

import numpy as np
import pytest
import torch

from flows.experiments import digits
from flows.experiments.digits import (
    DigitsConfig,
    black_and_white,
    compare_posteriors,
    grid_log_evidence,
)
from flows.model.model import Model

from ..learning.programs import rows_of

WEIGHTS = [[2.0, -1.0], [0.5, 1.5], [-1.0, 1.0], [1.5, 1.0]]

KNOWN = """
(defn sigmoid [a] (/ 1.0 (+ 1.0 (exp (* -1.0 a)))))
(let [z (foreach 2 [] (sample (normal 0 1)))]
  (foreach 4 [w [[2.0 -1.0] [0.5 1.5] [-1.0 1.0] [1.5 1.0]]]
    (observe "pixel" (bernoulli (sigmoid (dot w z))) 0))
  z)"""

SHARED = """
(defn sigmoid [a] (/ 1.0 (+ 1.0 (exp (* -1.0 a)))))
(let [across (foreach 1 [] (sample (normal 0 1)))
      along (foreach 1 [] (sample (normal 0 1)))
      offset (foreach 1 [] (sample (normal 0 1)))
      weight (foreach 4 [] (sample (normal 0 1)))
      bias (foreach 4 [] (sample (normal 0 3)))
      z (foreach 2 [] (sample (normal 0 1)))
      a (tanh (+ (* (first across) (first z)) (* (first along) (last z))
                 (first offset)))]
  (foreach 4 [w weight b bias]
    (observe "pixel" (bernoulli (sigmoid (+ (* w a) b))) 0))
  z)"""


def test_evidence_on_the_grid_is_that_of_gauss_and_hermite():
    model = Model.from_program(KNOWN)
    data = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.float64)
    found = grid_log_evidence(model, data, 81).numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / (2.0 * math.pi)
    chance = 1.0 / (1.0 + np.exp(-z @ np.transpose(WEIGHTS)))
    for row, log_evidence in zip(data.numpy(), found, strict=True):
        likelihood = np.where(row > 0, chance, 1.0 - chance).prod(1)
        assert log_evidence == pytest.approx(math.log(mass @ likelihood), abs=1e-8)


def test_bounds_lie_below_the_evidence_and_rise_with_particles(monkeypatch):
    kept = ("diagonal normal", "autoregressive")
    monkeypatch.setattr(
        digits, "POSTERIORS", {name: digits.POSTERIORS[name] for name in kept}
    )
    model = Model.from_program(SHARED)
    given = {"across": 1.0, "along": 1.5, "offset": 0.0}
    for number, weight in enumerate([3.0, -2.0, 2.0, -3.0]):
        given |= {f"weight[{number}]": weight, f"bias[{number}]": 0.5 * number}
    images = rows_of(model, given, 40, 0)
    config = DigitsConfig(30, 10, learning_seconds=20.0, seconds=1.0, particles=100)
    found = compare_posteriors(model, images, config, note=lambda text: None)
    assert found["parameters"] == 11
    assert found["log_evidence_seen"] == pytest.approx(
        found["log_evidence_by_grid"], abs=0.02
    )
    assert list(found["posteriors"]) == list(kept)
    for posterior in found["posteriors"].values():
        one, ten, hundred = posterior["gaps"]
        assert -3.0 * one["standard_error"] - 1e-3 < one["mean"] < 1.0
        for more, fewer in ((hundred, ten), (ten, one)):
            chance = 3.0 * (more["standard_error"] + fewer["standard_error"])
            assert more["mean"] < fewer["mean"] + chance
        assert hundred["mean"] > -3.0 * hundred["standard_error"] - 1e-3
    assert len(found["decoded"]) == 81
    assert len(found["decoded"][0]) == 4


def test_pixels_are_black_or_white():
    grey = np.arange(16.0).reshape(2, 2, 4)
    found = black_and_white(grey)
    assert sorted(map(sum, found.tolist())) == [0.0, 8.0]

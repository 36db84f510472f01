"""Tests of normals that are fitted by their scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from flows.inference.matching import matched, matched_mixture
from flows.inference.mixture import Mixture, MixtureProposal
from flows.model.model import Model
from tests.flows.model.programs import graph_of

Y = np.array([2.8, 0.8, -0.3, 0.7, -0.1, 0.1, 1.8, 1.2])
DATA = " ".join(str(y) for y in Y)

NARROW = """(let [a (sample (normal 0 100)) b (sample (normal 0 10))]
  (foreach 4 [x [50 51 53 70] y [1.0 2.0 1.5 4.0]]
    (observe (normal (+ a (* b x)) 0.1) y)) [a b])"""

HIERARCHY = f"""(let [mu (sample (normal 0 5)) tau (sample (half-normal 2))
    thetas (foreach 8 [] (sample (normal mu tau)))]
  (foreach 8 [t thetas y [{DATA}]] (observe (normal t 1) y)) [mu tau])"""

TWO_MODES = """(let [x (sample (normal 0 3))]
  (observe (normal (abs x) 0.3) 4) x)"""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def target_of(text):
    model = Model.from_graph(graph_of(text)).forgiving()
    return model, model.observation(None)


def test_a_normal_posterior_is_matched_exactly():
    model, observed = target_of(NARROW)
    design = np.array([[1.0, x] for x in (50, 51, 53, 70)])
    y = np.array([1.0, 2.0, 1.5, 4.0])
    precision = design.T @ design / 0.01 + np.diag([1e-4, 1e-2])
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ y / 0.01
    prior = np.diag([1e4, 1e2])
    evidence = stats.multivariate_normal(
        np.zeros(4), design @ prior @ design.T + 0.01 * np.eye(4)
    ).logpdf(y)
    found = matched(
        model,
        observed,
        torch.from_numpy(mean + np.array([0.5, -0.01])),
        torch.diag(torch.tensor([1.0, 1e-2], dtype=torch.float64)),
        generator=generator(),
    )
    factor = found.factor.numpy()
    gap = np.linalg.solve(np.linalg.cholesky(covariance), found.location.numpy() - mean)
    assert np.abs(gap).max() < 1e-3
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-3)
    assert found.log_mass == pytest.approx(evidence, abs=0.1)


def test_a_hierarchy_whose_highest_point_says_nothing_is_fitted_where_its_mass_is():
    """Given tau the data are normal, so the evidence is an integral over tau."""
    model, observed = target_of(HIERARCHY)

    def given(tau):
        covariance = 25.0 * np.ones((8, 8)) + (tau * tau + 1.0) * np.eye(8)
        height = stats.multivariate_normal(np.zeros(8), covariance).pdf(Y)
        return height * stats.halfnorm(scale=2).pdf(tau)

    evidence = math.log(integrate.quad(given, 0, 20, epsabs=0.0)[0])
    worths = []
    for each in (model, model.standardised()):
        mixture, worth = matched_mixture(each, observed, [], generator=generator())
        assert len(mixture.log_shares) == 1
        worths.append(worth)
    # Never above the evidence, and near in the coordinates that are nearly normal.
    assert max(worths) < evidence + 0.1
    assert worths[1] > evidence - 1.0


def test_each_mode_that_is_begun_from_keeps_a_component():
    model, observed = target_of(TWO_MODES)
    found = [
        matched(
            model,
            observed,
            torch.tensor([place], dtype=torch.float64),
            torch.tensor([[0.2]], dtype=torch.float64),
            generator=generator(),
        )
        for place in (-3.5, 3.5)
    ]
    # |x| ~ N(4, 0.3) under the prior N(0, 3): the product of two normals.
    precision = 1 / 0.09 + 1 / 9
    for each, sign in zip(found, (-1, 1), strict=True):
        assert float(each.location[0]) == pytest.approx(
            sign * (4 / 0.09) / precision, abs=0.01
        )
        assert float(each.factor[0, 0]) == pytest.approx(precision**-0.5, rel=0.02)
    assert not found[0].covers(found[1].location)


def test_what_comes_to_a_known_normal_or_falls_far_behind_it_is_left():
    model, observed = target_of(TWO_MODES)

    def found_from(place, known):
        return matched(
            model,
            observed,
            torch.tensor([place], dtype=torch.float64),
            torch.tensor([[0.2]], dtype=torch.float64),
            generator=generator(),
            known=known,
        )

    right = found_from(3.5, [])
    assert found_from(4.5, [replace(right, log_mass=right.log_mass + 1.0)]) is None
    assert found_from(-3.5, [right]) is not None
    assert found_from(-3.5, [replace(right, log_mass=right.log_mass + 20.0)]) is None
    # A normal that is worth less where it stands holds no better one back.
    poor = replace(right, log_mass=right.log_mass - 5.0)
    assert found_from(4.5, [poor]) is not None


def test_where_there_is_no_density_nothing_is_matched():
    model, observed = target_of(
        """(let [x (sample (normal 0 1)) width (/ 1 (+ 1 (* x x)))]
          (observe (uniform-continuous 0 width) 2.0) x)"""
    )
    assert matched_mixture(model, observed, [], generator=generator()) is None


def test_tails_that_have_no_end_in_other_coordinates_are_not_begun_from():
    """Measured in a scale of e^-200, some draws lie too far for their covariance."""
    model, observed = target_of(HIERARCHY)
    factor = torch.eye(10, dtype=torch.float64)
    factor[1, 1] = 200.0
    wide = Mixture(factor.new_zeros(1), factor.new_zeros(1, 10), factor.unsqueeze(0))
    begun = MixtureProposal(model, wide)
    mixture, worth = matched_mixture(
        model.standardised(), observed, [begun], generator=generator()
    )
    alone = matched_mixture(model.standardised(), observed, [], generator=generator())
    assert mixture.factors.isfinite().all()
    assert worth >= alone[1] - 0.1

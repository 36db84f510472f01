"""Tests of flows.structured_gaussian.reading: which potentials are exact or alike."""

import numpy as np
import pytest
from scipy import stats

from flows.errors import ArgumentError
from flows.model.model import Model
from flows.structured_gaussian.reading import potentials_of


def read(program):
    model = Model.from_program(program)
    return potentials_of(model.graph, model.layout)


def residuals(potential, latents, observed):
    matrix = np.array(potential.predictors).reshape(-1, *potential.shape)
    z = np.append(1.0, [latents[c] for c in potential.latents])
    x = np.append(1.0, [observed[c] for c in potential.observed])
    return np.einsum("i,kij,j->k", z, matrix, x)


def test_exact_potentials_are_the_factors_of_a_linear_normal_model():
    found = read("""
    (let [a (sample (normal 1 2))
          b (sample (normal (- (* 3 a) 1) 0.5))]
      (observe (normal (+ a b) 0.1) 0.5)
      (observe (normal 2 1) 0.5))
    """)
    z, x = [0.7, -0.4], [0.3, 9.0]
    assert [each.form for each in found] == ["", "", ""]
    assert [each.own for each in found] == [1, 1, 0]
    wanted = [(0.7 - 1) / 2, (-0.4 - 3 * 0.7 + 1) / 0.5, (0.3 - 0.3) / 0.1]
    for each, value in zip(found, wanted, strict=True):
        assert residuals(each, z, x) == pytest.approx([value])


def test_vector_with_a_known_covariance_is_exact():
    found, _ = read("""
    (let [v (sample (mvn [1 2] [[2 0.8] [0.8 1]]))]
      (observe (normal (get v 0) 1) 0.5))
    """)
    z = [0.3, -1.1]
    square = np.square(residuals(found, z, [])).sum()
    normal = stats.multivariate_normal([1, 2], [[2, 0.8], [0.8, 1]])
    gap = normal.logpdf([1, 2]) - normal.logpdf(z)
    assert found.is_exact
    assert 0.5 * square == pytest.approx(gap)


def test_counts_with_linear_predictors_share_a_form():
    *_, one, two = read("""
    (let [a (sample (normal 0 1)) b (sample (normal 0 1))]
      (observe (poisson (exp (+ a (* 2 b)))) 3)
      (observe (poisson (exp (+ a (* 5 b)))) 4))
    """)
    assert one.form == two.form != ""
    assert (one.latents, one.observed, two.observed) == ((0, 1), (0,), (1,))
    assert one.num_predictors == 1
    assert residuals(two, [1.0, 3.0], [7.0, 8.0]) == pytest.approx([16.0])


@pytest.mark.parametrize(
    "other", ["(poisson (exp (* 2 (+ 1 (exp a)))))", "(normal a (exp a))"]
)
def test_other_link_functions_have_other_forms(other):
    *_, one, two = read(f"""
    (let [a (sample (normal 0 1))]
      (observe (poisson (exp a)) 3)
      (observe {other} 4))
    """)
    assert one.form != two.form


def test_scale_with_bounds_is_a_predictor_in_free_coordinates():
    *_, prior, factor = read("""
    (let [mu (sample (normal 0 1))
          tau (sample (exponential 1))
          theta (sample (normal (* 2 mu) tau))]
      theta)
    """)
    assert (prior.own, prior.latents, prior.num_predictors) == (1, (1,), 1)
    assert factor.latents == (2, 0, 1)
    found = residuals(factor, [5.0, 0.1, 7.0], [])
    assert found == pytest.approx([10.0, 0.1, 7.0])
    assert factor.own == 1


def test_factor_without_latents_has_no_potential():
    found = read("(let [a (sample (normal 0 1))] (observe (normal 0 1) 3) a)")
    assert len(found) == 1


def test_discrete_latent_is_refused():
    with pytest.raises(ArgumentError, match="structured-gaussian: a latent that is"):
        read("(let [k (sample (flip 0.3))] (observe (normal (if k 1 0) 1) 2))")

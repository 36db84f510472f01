"""Tests of flows.model.coordinates."""

import math

import numpy as np
import pytest
import torch

from flows.errors import ModelError
from flows.model.model import Model

from .interpreter import assert_interpreted
from .programs import CONTINUOUS, draws_of, graph_of, graph_of_links, model_of


@pytest.mark.parametrize("name", CONTINUOUS)
def test_free_coordinates_go_there_and_back(name):
    _, model = model_of(name)
    latents = draws_of(model).latents
    free, log_det = model.unconstrain(latents)
    assert free.shape == (6, model.layout.free_dim)
    again, log_det_again = model.constrain(free)
    assert torch.allclose(again, latents, atol=1e-8)
    assert torch.allclose(log_det, log_det_again, atol=1e-8)


def test_log_det_with_bounds_that_depend_on_parents_is_that_of_autodiff():
    _, model = model_of("bounds")
    free, _ = model.unconstrain(draws_of(model).latents)
    _, log_det = model.constrain(free)
    for row in range(6):
        jacobian = torch.autograd.functional.jacobian(
            lambda point: model.constrain(point)[0], free[row]
        )
        expected = torch.linalg.slogdet(jacobian)[1]
        assert float(log_det[row]) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_joint_free_adds_the_log_determinant(name):
    _, model = model_of(name)
    draws = draws_of(model)
    free, log_det = model.unconstrain(draws.latents)
    expected = model.log_joint(draws.latents, draws.observed) + log_det
    found = model.log_joint_free(free, draws.observed)
    assert torch.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradients_in_free_coordinates_are_those_of_finite_differences(name):
    _, model = model_of(name)
    draws = draws_of(model, 2)
    free, _ = model.unconstrain(draws.latents)
    free.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda point: model.log_joint_free(point, draws.observed),
        free,
        eps=1e-6,
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_density_in_free_coordinates_integrates_to_one():
    graph = graph_of_links({"sample0": ["sample*", ["beta", 2, 3]]})
    model = Model.from_graph(graph)
    grid = torch.linspace(-14, 14, 4001, dtype=torch.float64)[:, None]
    empty = torch.zeros(0, dtype=torch.float64)
    density = model.log_joint_free(grid, empty).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-6)


def test_the_support_of_a_branch_decides_the_coordinates_of_a_row():
    graph = graph_of(
        """
        (let [c (sample (normal 0 1))
              x (sample (if (> c 0) (gamma 2 1) (beta 2 3)))]
          (observe (normal x 1) 0.4)
          x)"""
    )
    model = Model.from_graph(graph)
    latents = draws_of(model, 200).latents
    free, log_det = model.unconstrain(latents)
    is_gamma = latents[:, 0] > 0
    assert torch.allclose(free[is_gamma, 1], latents[is_gamma, 1].log())
    assert torch.allclose(free[~is_gamma, 1], latents[~is_gamma, 1].logit())
    again, log_det_again = model.constrain(free)
    assert torch.allclose(again, latents)
    assert torch.allclose(log_det, log_det_again)
    assert_interpreted(graph, model, latents[:5], model.observation().expand(5, -1))


def test_discrete_latents_have_no_free_coordinates():
    _, model = model_of("mixture")
    with pytest.raises(ModelError, match=r"discrete latents.*got k"):
        model.constrain(torch.zeros(2, model.layout.free_dim, dtype=torch.float64))


def test_unconstraining_a_value_outside_its_support_names_it():
    _, model = model_of("regression")
    latents = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    with pytest.raises(ModelError, match=r"sigma at row 1.*gamma; expected positive"):
        model.unconstrain(latents)


HIERARCHY = """
(let [m (sample (normal 1 2)) s (sample (half-cauchy 3))
      a (sample (normal m s)) b (sample (laplace a s)) c (sample (cauchy b 0.5))
      d (sample (student-t-loc-scale 4 (* m c) s)) e (sample (gamma 2 s))]
  (observe (normal (+ d e) 1) 0.5) [a b c d e])
"""


def test_standardised_coordinates_measure_latents_in_the_scales_that_others_give():
    plain = Model.from_graph(graph_of(HIERARCHY))
    model = plain.standardised()
    assert plain.coordinates.has_located
    latents = plain.sample_latents(
        6, generator=torch.Generator().manual_seed(0), observed=plain.observation()
    )
    m, s, a, b, c, d, e = latents.T
    free, log_det = model.unconstrain(latents)
    by_hand = [m, s.log(), (a - m) / s, (b - a) / s, (c - b) / 0.5, (d - m * c) / s]
    assert torch.allclose(free, torch.stack([*by_hand, e.log()], 1))
    again, log_det_again = model.constrain(free)
    assert torch.allclose(again, latents)
    assert torch.allclose(log_det, log_det_again)
    assert torch.allclose(log_det, 4 * s.log() + math.log(0.5) + e.log())


PROCESS = """
(let [r (sample (gamma 3 1)) c (sample (normal 0 1)) k (exp (* -1 r))
      f (sample (mvn [c (* 2 c) 1.0] [[1 k 0] [k 2 k] [0 k r]]))
      t (sample (multivariate-t 5 [c 1.0] [[r 0.5] [0.5 4]]))]
  (observe (normal (+ (get f 0) (get t 1)) 1) 0.5) f)
"""


def test_standardised_coordinates_measure_vectors_in_the_covariance_that_others_give():
    plain = Model.from_graph(graph_of(PROCESS))
    model = plain.standardised()
    latents = plain.sample_latents(
        5, generator=torch.Generator().manual_seed(0), observed=plain.observation()
    )
    free, log_det = model.unconstrain(latents)
    expected, volume = [], []
    for r, c, f0, f1, f2, t0, t1 in latents.numpy():
        k = math.exp(-r)
        first = np.linalg.cholesky([[1, k, 0], [k, 2, k], [0, k, r]])
        last = np.linalg.cholesky([[r, 0.5], [0.5, 4]])
        z = np.linalg.solve(first, [f0 - c, f1 - 2 * c, f2 - 1])
        expected.append([math.log(r), c, *z, *np.linalg.solve(last, [t0 - c, t1 - 1])])
        volume.append(math.log(r * np.diag(first).prod() * np.diag(last).prod()))
    np.testing.assert_allclose(free, expected, rtol=1e-9)
    np.testing.assert_allclose(log_det, volume, rtol=1e-9)
    again, log_det_again = model.constrain(free)
    np.testing.assert_allclose(again, latents, rtol=1e-9)
    np.testing.assert_allclose(log_det_again, volume, rtol=1e-9)


def test_a_covariance_without_a_factor_makes_a_row_no_number_and_no_other():
    text = """(let [r (sample (normal 0 1)) f (sample (mvn [0.0 0.0] [[1 r] [r 1]]))]
      (observe (normal (get f 0) 1) 0.5) f)"""
    model = Model.from_graph(graph_of(text)).standardised()
    rows = torch.tensor([[0.5, 1.0, 1.0], [2.0, 1.0, 1.0]]).double().requires_grad_()
    values, log_det = model.constrain(rows)
    assert values.isfinite().all(1).tolist() == [True, False]
    assert log_det.isfinite().tolist() == [True, False]
    (slopes,) = torch.autograd.grad(values[0].sum() + log_det[0], rows)
    assert bool(slopes[0].isfinite().all())


def test_without_a_scale_that_others_give_standardised_coordinates_are_the_same():
    model = Model.from_graph(
        graph_of("(let [x (sample (normal 1 2))] (observe (normal x 1) 0.5) x)")
    )
    assert not model.coordinates.has_located
    rows = torch.tensor([[0.3]], dtype=torch.float64)
    assert torch.equal(model.standardised().unconstrain(rows)[0], rows)


def test_what_is_measured_in_a_covariance_that_is_none_is_nan():
    """Rounding alone makes some covariances so; that was an error."""
    model = Model.from_graph(
        graph_of(
            """(let [r (sample (normal 0 1)) x (sample (mvn [0 0] [[1 r] [r 1]]))]
              (observe (normal (get x 0) 1) 0.5) x)"""
        )
    ).forgiving()
    other = model.standardised()
    found, _ = other.unconstrain(torch.tensor([[2.0, 0.1, 0.2], [0.5, 0.1, 0.2]]))
    assert found[0].isnan().any()
    assert found[1].isfinite().all()


def test_the_gradient_of_a_walk_takes_its_source_apart_once():
    """Measured from each other in their scale steps are standard normal."""
    model = Model.from_graph(
        graph_of(
            """(defn walk [t x s] (sample (normal x s)))
            (let [x (sample (normal 0 1)) end (loop 40 x walk 1)]
              (observe (normal end 3) 5.0) end)"""
        )
    ).standardised()
    free = torch.randn(
        7, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    leaf = free.clone().requires_grad_()
    density = model.log_joint_free(leaf, model.observation()).sum()
    (found,) = torch.autograd.grad(density, leaf, retain_graph=True)
    pull = (5.0 - free.sum(1)) / 9.0
    torch.testing.assert_close(found, pull.unsqueeze(1) - free)
    # A slice's gradient is as large as what it is of: one for each step is too much.
    nodes, names = [density.grad_fn], []
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        nodes += [each for each, _ in node.next_functions]
    assert names.count("SliceBackward0") < 10

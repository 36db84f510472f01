"""Tests of flows.flow.factors and flows.flow.factor_normalisation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure
from flows.flow.factor_normalisation import FactorNormalisation
from flows.flow.factors import find_factors
from flows.flow.kinds import build_flow
from flows.flow.protocol import Known
from flows.flow.structure import StateBlock, Structure
from flows.model.model import Model

from ..model.programs import PROGRAMS, graph_of

INPUTS = """
(let [x (observe (normal 0 1) 0.7)
      a (sample (normal 1 2))
      b (sample (normal (* x a) 1))]
  (observe (normal (+ a (* x b)) 0.5) 1.5)
  b)
"""
REGRESSION = """
(let [slope (sample (normal 0 3))
      height (sample (laplace 0 1))
      x (observe (normal 2 1) 1)
      u (observe (normal 0 1) 1)]
  (observe (normal (+ height (* slope x)) 1) 1)
  (observe (normal (+ height (* slope u)) 1) 1)
  slope)
"""
CONVOLUTION = """
(let [image (foreach 9 [] (sample (normal 0 1)))
      filter (foreach 3 [] (observe (normal 0 1) 0.5))]
  (foreach 4 [k (range 4)]
    (observe (normal (+ (* (get filter 0) (get image (* 2 k)))
                        (+ (* (get filter 1) (get image (+ (* 2 k) 1)))
                           (if (< k 3)
                             (* (get filter 2) (get image (+ (* 2 k) 2)))
                             (* (get filter 2) (get image 8)))))
                     1) 0.5))
  image)
"""
LINEAR = {"inputs": INPUTS, "regression": REGRESSION, "convolution": CONVOLUTION}
OTHERS = {
    name: f"""
(let [x (observe (normal 0 1) 0.7)
      u (observe (normal 0 1) 0.2)
      a (sample {prior})]
  (observe {link} 1.5)
  a)
"""
    for name, prior, link in (
        ("no product", "(normal 1 2)", "(normal (+ a (+ x u)) 1)"),
        ("square", "(normal 1 2)", "(normal (* x (* a a)) 1)"),
        ("two observed values", "(normal 1 2)", "(normal (* x (* u a)) 1)"),
        ("scale", "(normal 1 2)", "(normal (* x a) (exp u))"),
        ("noise", "(normal 1 2)", "(laplace (* x a) 1)"),
        ("heavy prior", "(student-t 1)", "(normal (* x a) 1)"),
    )
}
CONTINUOUS = ("arithmetic_circuit", "gaussian_tree", "state_space")


def found(text, nuisances=0, num=20_000):
    """Return a model, its structure with factors if any, and joint draws."""
    graph = graph_of(text)
    model = Model.from_graph(graph)
    structure = build_structure(invert(graph), model.layout, nuisances)
    draws = model.sample(num, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    parents = {node.name: node.parents for node in graph.nodes}
    wide = find_factors(structure, model.layout, parents, free, draws.observed)
    assert replace(wide, factors=()) == structure
    return model, wide, free, draws.observed


@pytest.mark.parametrize("name", LINEAR)
def test_models_that_are_linear_given_the_data_have_factors(name):
    model, structure, _, _ = found(LINEAR[name])
    first = [f.latents[0] for f in structure.factors if not f.is_of_observed]
    assert sorted(first) == list(range(model.layout.free_dim))
    of_data = [f.observed[0] for f in structure.factors if f.is_of_observed]
    assert of_data == list(range(model.layout.observed_dim))[-len(of_data) :]
    assert len(of_data) == {"inputs": 1, "regression": 2, "convolution": 4}[name]


@pytest.mark.parametrize("name", [*OTHERS, *CONTINUOUS])
def test_other_models_have_none(name):
    text = OTHERS.get(name) or PROGRAMS[name]
    assert found(text)[1].factors == ()


def exact_posterior(x, y):
    """Return mean and covariance of a, b in `INPUTS`, by conditioning on y."""
    # a = 1 + 2 e1, b = x a + e2, y = a + x b + 0.5 e3
    root = np.array([[2.0, 0, 0], [2 * x, 1, 0], [2 + 2 * x * x, x, 0.5]])
    mean, covariance = np.array([1.0, x, 1 + x * x]), root @ root.T
    gain = covariance[:2, 2] / covariance[2, 2]
    return (
        mean[:2] + gain * (y - mean[2]),
        covariance[:2, :2] - np.outer(gain, covariance[2, :2]),
    )


def flow_without_field(text, nuisances):
    """Return a flow in double precision whose vector field is zero, fitted."""
    model, structure, free, observed = found(text, nuisances, num=200_000)
    flow = build_flow(structure, FieldConfig(layers=2, hidden=4)).double()
    flow.normalisation.fit(free, observed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    return model, flow


@pytest.mark.parametrize("size", [0, 2])
def test_the_layer_alone_is_the_posterior_of_a_linear_model(size):
    model, flow = flow_without_field(INPUTS, size)
    draws = model.sample(50, generator=torch.Generator().manual_seed(5))
    nuisances = torch.randn(50, 2 * size, dtype=torch.float64)
    found = flow.log_prob_per_node(draws.latents, nuisances, draws.observed).detach()
    for row, (x, y) in enumerate(draws.observed.tolist()):
        mean, covariance = exact_posterior(x, y)
        a, b = draws.latents[row].tolist()
        joint = multivariate_normal(mean, covariance).logpdf([a, b])
        last = flow.structure.names[1]
        column = model.layout.variable(last).free_start
        first_value = (a, b)[1 - column]
        first = norm(
            mean[1 - column], covariance[1 - column, 1 - column] ** 0.5
        ).logpdf(first_value)
        own = norm.logpdf(nuisances[row].numpy())
        expected = [first + own[:size].sum(), joint - first + own[size:].sum()]
        # 200,000 draws give coefficients to 0.2 % (one standard error)
        assert found[row].tolist() == pytest.approx(expected, abs=0.05)


def test_a_regression_on_any_inputs_has_its_conjugate_posterior():
    path = (
        Path(__file__).parents[3] / "clj-programs" / "regression_on_any_inputs.daphne"
    )
    model, flow = flow_without_field(path.read_text(), 0)
    assert len(flow.structure.factors) == 8
    data = model.sample(20, generator=torch.Generator().manual_seed(4))
    rows = torch.cat([model.observation()[None], data.observed])
    for row in rows:
        columns = dict(zip(model.layout.observed, row.tolist(), strict=True))
        x, y = (
            np.array([v for k, v in columns.items() if k.name.startswith(name)])
            for name in "xy"
        )
        design = np.stack([x, np.ones(6)], 1)
        covariance = np.linalg.inv(design.T @ design + np.eye(2) / 25)
        mean = covariance @ design.T @ y
        point = mean + 0.3
        got = flow.log_prob(
            torch.from_numpy(point)[None], torch.zeros(1, 0), row[None].double()
        )
        expected = multivariate_normal(mean, covariance).logpdf(point)
        assert float(got.detach()) == pytest.approx(expected, abs=0.1)


def test_there_and_back_is_the_identity_and_log_det_that_of_the_jacobian():
    model, flow = flow_without_field(CONVOLUTION, 1)
    normalisation = flow.normalisation
    assert isinstance(normalisation, FactorNormalisation)
    draws = model.sample(4, generator=torch.Generator().manual_seed(2))
    affine = normalisation.affine(normalisation.normalise_observed(draws.observed))
    state = torch.randn(4, flow.structure.state_dim, dtype=torch.float64)
    back = affine.from_residual(affine.to_residual(state))
    torch.testing.assert_close(back, state, atol=1e-10, rtol=0)
    jacobian = torch.autograd.functional.jacobian(affine.to_residual, state)
    for row in range(4):
        own = jacobian[row, :, row]
        assert float(torch.linalg.slogdet(own).logabsdet) == pytest.approx(
            float(affine.log_det[row].sum()), abs=1e-9
        )
        assert (torch.triu(own, 1) == 0).all()
    assert (jacobian[0, :, 1] == 0).all()


def test_coefficients_are_zero_where_the_inverse_has_no_edge():
    model, flow = flow_without_field(CONVOLUTION, 0)
    draws = model.sample(3, generator=torch.Generator().manual_seed(2))
    given = flow.normalisation.normalise_observed(draws.observed).requires_grad_()
    with torch.no_grad():
        slopes = flow.normalisation.affine(given).coefficients
    blocks = flow.structure.blocks
    for i, block in enumerate(blocks):
        others = sorted(set(range(len(blocks))) - set(block.latent_parents))
        assert slopes[:, i, others].abs().max() < 1e-12
        # and what no node of its own reads changes nothing
        for column in set(range(7)) - set(block.observed_columns):
            moved = draws.observed.clone()
            moved[:, column] += 1.0
            again = flow.normalisation.affine(
                flow.normalisation.normalise_observed(moved)
            )
            torch.testing.assert_close(again.coefficients[:, i], slopes[:, i])


def test_equal_rows_share_one_map_with_the_same_numbers():
    model, flow = flow_without_field(CONVOLUTION, 1)
    draws = model.sample(3, generator=torch.Generator().manual_seed(2))
    nuisances = torch.zeros(3, 9, dtype=torch.float64)
    apart = flow.log_prob(draws.latents, nuisances, draws.observed)
    for row in range(3):
        same = draws.observed[row].expand(3, -1)
        together = flow.log_prob(draws.latents, nuisances, same)
        torch.testing.assert_close(together[row], apart[row], atol=1e-10, rtol=0)
    empty = flow.log_prob(draws.latents[:0], nuisances[:0], draws.observed[:0])
    assert empty.shape == (0,)


def test_a_remaining_latent_is_drawn_from_its_conditional():
    model, flow = flow_without_field(INPUTS, 0)
    draws = model.sample(1, generator=torch.Generator().manual_seed(3))
    mean, covariance = exact_posterior(*draws.observed[0].tolist())
    first = flow.structure.names[0]
    column = model.layout.variable(first).free_start
    given = draws.latents.expand(50_000, -1)
    nuisances = torch.zeros(50_000, 0, dtype=torch.float64)
    data = draws.observed.expand(50_000, -1)
    with torch.no_grad():
        drawn = flow.rsample_remaining(
            Known(given, nuisances, [first]), data,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    other = 1 - column
    slope = covariance[0, 1] / covariance[column, column]
    value = float(draws.latents[0, column])
    expected = mean[other] + slope * (value - mean[column])
    spread = (covariance[other, other] - slope * covariance[0, 1]) ** 0.5
    rows = drawn.free[:, other]
    assert float(rows.mean()) == pytest.approx(expected, abs=0.05 * spread)
    assert float(rows.std()) == pytest.approx(spread, rel=0.03)


def test_factors_that_the_blocks_do_not_cover_are_refused():
    _, structure, _, _ = found(CONVOLUTION)
    blocks = tuple(
        StateBlock(b.name, b.free_columns, b.nuisances, (), b.observed_columns)
        for b in structure.blocks
    )
    with pytest.raises(ValueError, match="what it reads; expected all that"):
        Structure(blocks, 7, structure.factors)
    with pytest.raises(ValueError, match="expected the density of every latent"):
        replace(structure, factors=structure.factors[1:])
    odd = replace(structure.factors[0], latents=(0, 99))
    with pytest.raises(ValueError, match="expected distinct columns"):
        replace(structure, factors=(odd, *structure.factors[1:]))
    with pytest.raises(ValueError, match="at most 256 columns"):
        replace(structure, factors=structure.factors * 4000)


def test_a_map_that_cannot_be_computed_is_not_a_number():
    model, flow = flow_without_field(INPUTS, 0)
    flow.normalisation.factor_coefficients.zero_()
    draws = model.sample(2, generator=torch.Generator().manual_seed(3))
    nuisances = torch.zeros(2, 0, dtype=torch.float64)
    assert flow.log_prob(draws.latents, nuisances, draws.observed).isnan().all()

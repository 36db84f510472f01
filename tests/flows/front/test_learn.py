"""Tests of flows.front.learn and .learned."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import torch
from scipy import optimize

import flows
from daphne_bridge.errors import BridgeError

from ..learning.programs import (
    COMPONENTS,
    HIERARCHICAL,
    MARKOV,
    PATHS,
    WALK,
    hierarchical_top,
    model_of,
    rows_of,
)

FEW = {
    "budget_seconds": 0.0,
    "max_iterations": 100,
    "report_every": 50,
    "num_certifications": 1,
    "certify_draws": 200,
    "normalisation_draws": 2000,
}
SCALES = {"q": 0.5, "r": 0.3}

SEEDS = [
    pytest.param(seed, marks=pytest.mark.slow if seed < 3 else pytest.mark.long)
    for seed in range(20)
]
"""All of them are to do; three of them in CI."""


def check_schema(learned):
    text = files("flows.front").joinpath("learning.schema.json").read_text()
    jsonschema.Draft202012Validator(json.loads(text)).validate(learned.to_json())


def numbers(learned):
    """Return values and standard errors."""
    found = learned.parameters.values()
    return (
        np.array([estimate.value for estimate in found]),
        np.array([estimate.standard_error for estimate in found]),
    )


def expectation_maximisation(data, alpha=2.0):
    """Return transition rows and means of largest posterior density, by EM."""
    rows, means = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([-0.5, 1.0])
    for _ in range(2000):
        density = np.exp(-0.5 * (data[..., None] - means) ** 2)
        num, length = data.shape
        # The first state is seen by no observation.
        forward = np.zeros((num, length + 1, 2))
        forward[:, 0] = 0.5
        for t in range(length):
            step = (forward[:, t] @ rows) * density[:, t]
            forward[:, t + 1] = step / step.sum(1, keepdims=True)
        backward = np.ones((num, length + 1, 2))
        counts = np.zeros((2, 2))
        for t in reversed(range(length)):
            ahead = density[:, t] * backward[:, t + 1]
            pair = forward[:, t, :, None] * rows * ahead[:, None, :]
            counts += (pair / pair.sum((1, 2), keepdims=True)).sum(0)
            step = ahead @ rows.T
            backward[:, t] = step / step.sum(1, keepdims=True)
        share = forward[:, 1:] * backward[:, 1:]
        share /= share.sum(-1, keepdims=True)
        counts += alpha - 1
        moved = counts / counts.sum(1, keepdims=True)
        total = share.sum((0, 1))
        # The priors of the means are normal of scale 2 around -1 and 1.
        centres = np.array([-1.0, 1.0])
        weighed = (share * data[..., None]).sum((0, 1)) + centres / 4
        means = weighed / (total + 1 / 4)
        change = np.abs(moved - rows).max()
        rows = moved
        if change < 1e-8:
            break
    return np.array([*rows.ravel(), *means])


def kalman_log_posterior(values, data):
    """Return the log posterior of q and r up to a constant, row by row in time."""
    q, r = values
    total = -0.5 * (q**2 + r**2)
    mean, variance = np.zeros(len(data)), 1.0
    for t, y in enumerate(data.T):
        variance += q**2 if t else 0.0
        spread = variance + r**2
        total += -0.5 * ((y - mean) ** 2 / spread + np.log(2 * np.pi * spread)).sum()
        gain = variance / spread
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return total


def kalman_top(data):
    """Return q and r of largest posterior density, by a search of scipy."""
    found = optimize.minimize(
        lambda u: -kalman_log_posterior(np.exp(u), data), np.full(2, -1.0), tol=1e-10
    )
    return np.exp(found.x)


def test_a_markov_chain_is_learned_as_by_expectation_maximisation():
    model = model_of(MARKOV)
    data = rows_of(model, PATHS, 30, 1)
    learned = flows.learn(model, data, list(PATHS), seed=3)
    assert learned.method == "exact"
    assert learned.is_trusted
    values, errors = numbers(learned)
    assert np.allclose(values, expectation_maximisation(data.numpy()), atol=1e-4)
    assert np.all((errors > 0.02) & (errors < 0.3))
    check_schema(learned)


def test_the_posterior_of_parameters_stands_beside_them():
    model = model_of(MARKOV)
    data = rows_of(model, PATHS, 30, 1)
    learned = flows.learn(model, data, list(PATHS), posterior=True)
    values, errors = numbers(learned)
    figures = [estimate.posterior for estimate in learned.parameters.values()]
    assert np.allclose([f.mean for f in figures], values, atol=0.5 * errors.max())
    assert np.allclose([f.sd for f in figures], errors, rtol=0.35)
    assert learned.particles is not None
    assert "mean" in learned.summary()
    check_schema(learned)


def test_what_is_learned_is_saved_as_a_document(tmp_path):
    model = model_of(MARKOV)
    data = rows_of(model, PATHS, 20, 1)
    learned = flows.learn(model, data, list(PATHS))
    learned.save(tmp_path / "learned")
    loaded = flows.Model.load(tmp_path / "learned" / "learned.json")
    labels = [v.label for v in loaded.layout.latents]
    assert labels == [f"z[{t}]" for t in range(9)]
    answer = flows.infer(loaded, num_particles=1000)
    assert answer.is_trusted


def test_a_flow_averages_over_continuous_latents_of_a_row():
    model = model_of(HIERARCHICAL)
    data = rows_of(model, COMPONENTS, 60, 1)
    learned = flows.learn(model, data, list(COMPONENTS), config=FEW, seed=0)
    assert learned.method == "flow"
    assert learned.has_converged
    values, errors = numbers(learned)
    assert np.all(np.abs(values - hierarchical_top(data.numpy())) < 2 * errors)
    check_schema(learned)


def test_draws_around_modes_average_over_continuous_latents_of_a_row():
    model = model_of(HIERARCHICAL)
    data = rows_of(model, COMPONENTS, 60, 1)
    learned = flows.learn(model, data, list(COMPONENTS), seed=0)
    assert learned.method == "laplace"
    assert "average over z" in learned.why
    assert learned.is_trusted
    values, errors = numbers(learned)
    assert np.all(np.abs(values - hierarchical_top(data.numpy())) < 0.3 * errors)
    check_schema(learned)


def test_a_flow_is_trained_where_modes_are_poor_proposals():
    """Each of ten latents of a row has two modes, so that there are a thousand."""
    model = model_of("""
        (let [s (sample (half-normal 1))
              z (foreach 10 [] (sample (normal 0 1)))]
          (foreach 10 [v z y [1 2 3 4 5 6 7 8 9 10]]
            (observe (normal (* v v) s) y))
          z)""")
    data = rows_of(model, {"s": 0.1}, 5, 1)
    learned = flows.learn(model, data, ["s"], budget=2.0, seed=0)
    assert learned.method == "flow"
    assert "modes are missed" in learned.why
    asked = flows.learn(model, data, ["s"], budget=5.0, seed=0, method="laplace")
    assert not asked.is_trusted
    assert any("--method flow" in str(caution) for caution in asked.cautions)


def test_no_time_leaves_parameters_that_are_not_trusted():
    model = model_of(MARKOV)
    data = rows_of(model, PATHS, 210, 1)
    learned = flows.learn(model, data, list(PATHS), budget=1e-9, posterior=True)
    assert not learned.is_trusted
    assert not learned.has_converged
    assert any("on their way" in str(caution) for caution in learned.cautions)
    assert learned.particles is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "exact"}, "continuous latents belong to a row: z"),
        ({"method": "mcmc"}, "unknown; expected one of auto, exact, laplace, flow"),
        ({"kind": "planar"}, "unknown"),
        ({"data": torch.zeros(2, 3)}, "rows of 4 numbers; got"),
        ({"data": []}, "there is no row"),
        ({"data": [{"y9": 1.0}]}, "no node is called y9"),
        ({"data": [{"mu": 1.0}]}, "mu is a latent"),
        ({"data": [{"y0": [1.0, 2.0]}]}, "data row 1 y0: .* wrong type"),
    ],
)
def test_what_cannot_be_done_is_said(options, said):
    asked = {"data": [{"y0": 1.0}], **options}
    data = asked.pop("data")
    with pytest.raises(BridgeError, match=said):
        flows.learn(model_of(HIERARCHICAL), data, [*COMPONENTS], **asked)


@pytest.mark.parametrize("method", ["laplace", "flow"])
def test_draws_are_refused_where_rows_have_nothing_to_draw(method):
    with pytest.raises(BridgeError, match="nothing to draw"):
        flows.learn(model_of(MARKOV), [{}], list(PATHS), method=method)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("text", "truth", "num", "first", "exact"),
    [
        (MARKOV, PATHS, 50, 100, expectation_maximisation),
        (HIERARCHICAL, COMPONENTS, 80, 200, hierarchical_top),
        (WALK, SCALES, 60, 300, kalman_top),
    ],
    ids=["a Markov chain", "variance components", "scales of a state space"],
)
def test_parameters_are_learned_within_two_errors(text, truth, num, first, exact, seed):
    model = model_of(text)
    data = rows_of(model, truth, num, first + seed)
    learned = flows.learn(model, data, list(truth), seed=seed)
    values, errors = numbers(learned)
    assert learned.is_trusted
    assert np.all(np.abs(values - exact(data.numpy())) < 2 * errors)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("text", "truth", "num", "first", "seconds", "exact"),
    [
        (HIERARCHICAL, COMPONENTS, 80, 200, 10.0, hierarchical_top),
        (WALK, SCALES, 60, 300, 20.0, kalman_top),
    ],
    ids=["variance components", "scales of a state space"],
)
def test_a_flow_learns_parameters_within_two_errors(
    text, truth, num, first, seconds, exact, seed
):
    model = model_of(text)
    data = rows_of(model, truth, num, first + seed)
    trained = {"budget_seconds": seconds}
    learned = flows.learn(model, data, list(truth), seed=seed, config=trained)
    values, errors = numbers(learned)
    assert learned.is_trusted
    assert np.all(np.abs(values - exact(data.numpy())) < 2 * errors)


def test_rows_that_are_too_large_to_compute_with_are_named():
    program = "(let [m (sample (normal 0 9)) y (observe (normal m 1) 0)] m)"
    model = flows.Model.from_program(program)
    with pytest.raises(flows.FlowsError) as caught:
        flows.learn(model, [{"y": 1.0}, {"y": -1e300}, {"y": 0.5}], ["m"])
    assert str(caught.value).endswith("; got rows 2 (up to 1e+300)")


def test_a_node_that_rows_leave_out_is_said_and_a_column_of_it_ends_that():
    program = """
(let [m (sample (normal 0 9))
      y (observe (normal m 1) 0)
      w (observe (normal m 2) 0.7)]
  m)"""
    model = flows.Model.from_program(program)
    rows = [{"y": 1.0}, {"y": 2.0}, {"y": 0.5}]
    learned = flows.learn(model, rows, ["m"])
    assert learned.is_trusted
    (caution,) = learned.cautions
    assert caution.what == "w: the program's own data in every row"
    # So it counts: the top of m's normal posterior.
    precision = 1 / 81 + 3 + 3 / 4
    right = (3.5 + 3 * 0.7 / 4) / precision
    assert learned.parameters["m"].value == pytest.approx(right, abs=1e-4)
    full = [{**row, "w": number} for number, row in enumerate(rows)]
    assert not flows.learn(model, full, ["m"]).cautions


def test_a_column_that_is_the_same_in_every_row_is_not_left_out(tmp_path):
    """Its values are those of the program, which says nothing of who gave them."""
    program = """
(let [m (sample (normal 0 9))
      y (foreach 2 [] (observe (normal m 1) 0))]
  m)"""
    model = flows.Model.from_program(program)
    table = tmp_path / "rows.csv"
    table.write_text("y[0],y[1]\n1,0\n2,0\n")
    assert not flows.learn(model, table, ["m"]).cautions
    table.write_text("y[0]\n1\n2\n")
    (caution,) = flows.learn(model, table, ["m"]).cautions
    assert caution.what == "y[1]: the program's own data in every row"


def test_a_column_for_each_entry_of_a_vector_is_a_row_of_vectors(tmp_path):
    program = """
(let [m (sample (normal 0 3))
      y (observe (mvn [m m] [[1 0] [0 1]]) [0 0])]
  m)"""
    table = tmp_path / "rows.csv"
    table.write_text("y[0],y[1]\n1,2\n0.5,1.5\n")
    learned = flows.learn(flows.Model.from_program(program), table, ["m"])
    assert learned.parameters["m"].value == pytest.approx(5 / (4 + 1 / 9), abs=1e-4)
    assert not learned.cautions

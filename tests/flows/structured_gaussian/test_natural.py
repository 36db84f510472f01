"""Tests of flows.structured_gaussian.natural, against quadrature and exact answers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import optimize

from flows.errors import ArgumentError
from flows.flow.building import build_structure, inverse_of
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.structured_gaussian.natural import climb
from flows.structured_gaussian.reading import at_data, potentials_of
from tests.exact import joint_gaussian

COUNT = """
(let [a (sample (normal 0.5 1.5))]
  (observe (poisson (exp a)) 4)
  (observe (normal a 2) 0.3))
"""


def climbed(model):
    data = model.observation()
    edges = build_structure(inverse_of(model.graph, model.layout), model.layout)
    structure = replace(
        edges,
        blocks=tuple(replace(b, observed_columns=()) for b in edges.blocks),
        potentials=at_data(potentials_of(model.graph, model.layout), data.tolist()),
    )
    flow = build_flow(structure, kind="structured-gaussian").double()
    draws = model.sample(2000, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, data.expand(2000, -1))
    return flow, data, list(climb(flow, model, data))


def test_bound_of_a_linear_normal_model_is_its_log_evidence():
    model = Model.compile("clj-programs/state_space.daphne")
    _, data, reports = climbed(model)
    joint = joint_gaussian(model.graph)
    exact = joint.posterior(dict(zip(joint.observed, data.tolist(), strict=True)))
    assert reports[0].bound == pytest.approx(exact.log_evidence, abs=1e-4)


def test_normal_of_one_count_is_the_one_with_the_largest_bound():
    flow, data, _ = climbed(Model.from_program(COUNT))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def minus_bound(parameters):
        mean, log_scale = parameters
        a = mean + np.exp(log_scale) * nodes
        log_p = 4 * a - np.exp(a) - 0.5 * ((a - 0.5) / 1.5) ** 2
        log_p = log_p - 0.5 * ((0.3 - a) / 2) ** 2
        return -(weights @ log_p) - log_scale

    best = optimize.minimize(minus_bound, [1.0, -1.0], tol=1e-12).x
    draw = flow.from_base(torch.tensor([[0.0], [1.0]]).double(), data.expand(2, -1))
    mean, upper = draw.free[:, 0].tolist()
    assert mean == pytest.approx(best[0], abs=1e-3)
    assert upper - mean == pytest.approx(np.exp(best[1]), rel=2e-3)


@pytest.mark.parametrize("name", ["stochastic_volatility", "robust_regression"])
def test_bound_rises_with_every_report_and_stays_below_the_evidence(name):
    model = Model.compile(f"clj-programs/{name}.daphne")
    flow, data, reports = climbed(model)
    bounds = [each.bound for each in reports]
    assert bounds[-1] > bounds[0] + 1.0
    assert all(later > sooner - 1e-4 for sooner, later in pairwise(bounds))
    rows = data.expand(20_000, -1)
    draw = flow.rsample_and_log_prob(rows, generator=torch.Generator().manual_seed(0))
    weights = (model.log_joint_free(draw.free, rows) - draw.log_prob).detach()
    evidence = float(weights.logsumexp(0)) - np.log(20_000)
    assert evidence - 1.0 < bounds[-1] < evidence


def test_factor_without_slopes_is_refused():
    model = Model.from_program("""
    (let [a (sample (normal 0 1))] (observe (flip (if (< a 0) 0.2 0.9)) true) a)
    """)
    with pytest.raises(ArgumentError, match="a factor has no slopes"):
        climbed(model)

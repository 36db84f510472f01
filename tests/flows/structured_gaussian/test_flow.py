"""Tests of flows.structured_gaussian.flow: linear-Gaussian models without training."""

import numpy as np
import pytest
import torch
from scipy import stats

from flows.errors import ArgumentError
from flows.flow.kinds import build_flow, for_weights
from flows.flow.structure import StateBlock, Structure
from flows.model.model import Model
from tests.exact import joint_gaussian

PROGRAMS = ["state_space", "gaussian_tree", "random_walk", "tracking"]


def untrained(model, num=500):
    flow = build_flow(model, kind="structured-gaussian", seed=0)
    generator = torch.Generator().manual_seed(0)
    draws = model.sample(num, generator=generator)
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, draws.observed)
    return for_weights(flow), free, draws.observed


@pytest.mark.parametrize("name", PROGRAMS)
def test_density_is_the_posterior_in_closed_form(name):
    model = Model.compile(f"clj-programs/{name}.daphne")
    flow, free, observed = untrained(model)
    joint = joint_gaussian(model.graph)
    data = dict(zip(joint.observed, observed[7].tolist(), strict=True))
    exact = joint.posterior(data)
    normal = stats.multivariate_normal(exact.mean, exact.covariance)
    rows = free[5:9]
    found = flow.log_prob(rows, rows.new_zeros(4, 0), observed[7].expand(4, -1))
    wanted = normal.logpdf(rows.numpy())
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_divergence_on_a_regression_with_unknown_inputs_is_nought():
    model = Model.compile("clj-programs/regression_on_any_inputs.daphne")
    flow, free, observed = untrained(model)
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(1)
    )
    forward = model.log_joint_free(free, observed)
    forward = forward - flow.log_prob(free, draw.nuisances, observed)
    reverse = draw.log_prob - model.log_joint_free(draw.free, observed)
    assert abs(float(0.5 * (forward + reverse).mean())) < 1e-9


def test_both_directions_at_once_are_those_one_by_one():
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    flow, free, observed = untrained(model, 300)
    rows, data = free[:6], observed[:6]
    nothing, base = rows.new_zeros(6, 0), flow.sample_base(6)
    both = flow.two_way(rows, nothing, data, base)
    ends = flow.ends(rows, nothing, data, base)
    draw = flow.from_base(base, data)
    torch.testing.assert_close(both.log_prob, flow.log_prob(rows, nothing, data))
    torch.testing.assert_close(both.draw.free, draw.free)
    torch.testing.assert_close(ends.free, draw.free)
    torch.testing.assert_close(flow.from_base(ends.base, data).free, rows)


def test_structure_without_potentials_is_refused():
    structure = Structure((StateBlock("z", (0,), 0, (), ()),), observed_dim=0)
    with pytest.raises(ArgumentError, match="the structure has no potentials"):
        build_flow(structure, kind="structured-gaussian")

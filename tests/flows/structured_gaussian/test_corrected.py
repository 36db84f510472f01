"""Tests of flows.structured_gaussian.corrected: a flow of the Gaussian's residuals."""

import pytest
import torch

from flows.flow.kinds import build_flow, for_weights
from flows.model.model import Model
from flows.structured_gaussian.flow import StructuredGaussianConfig


@pytest.fixture(scope="module")
def made():
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    config = StructuredGaussianConfig(hidden=4, corrected_by="autoregressive")
    flow = build_flow(model, config, kind="structured-gaussian", seed=0)
    draws = model.sample(3000, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, draws.observed)
    return flow, free.float(), draws.observed.float()


def test_correction_of_an_exact_gaussian_begins_near_it():
    model = Model.compile("clj-programs/state_space.daphne")
    config = StructuredGaussianConfig(corrected_by="autoregressive")
    flow = build_flow(model, config, kind="structured-gaussian", seed=0)
    draws = model.sample(1000, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, draws.observed)
    wide = for_weights(flow)
    with torch.no_grad():
        base = wide.sample_base(1000, generator=torch.Generator().manual_seed(1))
        draw = wide.from_base(base, draws.observed)
        forward = model.log_joint_free(free, draws.observed)
        forward = forward - wide.log_prob(free, draw.nuisances, draws.observed)
        reverse = draw.log_prob - model.log_joint_free(draw.free, draws.observed)
    assert float(0.5 * (forward + reverse).mean()) < 0.5


def test_gradients_reach_the_potentials_and_the_flow(made):
    flow, free, observed = made
    terms = flow.matching_terms(
        free[:64], free[:64, :0], observed[:64], free[:64], free[:64, 0]
    )
    flow.zero_grad()
    terms.mean().backward()
    for name, parameter in flow.named_parameters():
        assert float(parameter.grad.abs().sum()) > 0.0, name


def test_quick_draws_have_the_moments_of_carried_ones(made):
    flow, _, observed = made
    wide = for_weights(flow)
    data = observed[:1].double().expand(4000, -1)
    base = wide.sample_base(4000, generator=torch.Generator().manual_seed(1))
    quick, _ = wide.drawn(base, data)
    with torch.no_grad():
        carried = wide.from_base(base, data).free
    errors = (quick.var(0) / 4000 + carried.var(0) / 4000).sqrt()
    assert bool(((quick.mean(0) - carried.mean(0)).abs() < 5 * errors).all())
    assert bool(((quick.std(0) / carried.std(0) - 1).abs() < 0.08).all())

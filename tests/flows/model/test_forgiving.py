"""Tests of `Model.forgiving`: rows without meaning weigh 0, and are told apart."""

import math

import pytest
import torch

from flows.errors import ModelError
from flows.inference.importance import importance_particles
from flows.inference.proposal import PriorProposal
from flows.model.model import Model

from .programs import graph_of

OBSERVED = "(let [s (sample (normal 1 1))] (observe (normal 0 s) 1) s)"
LATENT = (
    "(let [s (sample (normal 1 1)) x (sample (normal 0 s))] (observe (normal x 1) 1) x)"
)


def test_draws_without_meaning_weigh_nothing():
    model = Model.from_graph(graph_of(OBSERVED)).forgiving()
    observed = model.observation()
    proposal = PriorProposal(model)
    found = importance_particles(model, proposal, observed, 100_000, seed=0)
    # by quadrature over s > 0; one draw s <= 0 stopped everything
    assert found.totals.log_evidence == pytest.approx(-1.968970, abs=0.01)
    assert float(found.mean()[0]) == pytest.approx(1.40058, abs=0.02)
    negative = found.latents[:, 0] <= 0
    assert torch.equal(model.has_meaning(found.latents, observed), ~negative)
    assert bool((found.log_weights[negative] == -math.inf).all())


def test_a_draw_from_a_distribution_that_is_none_has_no_value_and_no_weight():
    model = Model.from_graph(graph_of(LATENT)).forgiving()
    drawn = model.sample_latents(1000, generator=torch.Generator().manual_seed(0))
    negative = drawn[:, 0] <= 0
    assert bool(torch.isnan(drawn[negative, 1]).all())
    assert bool(torch.isfinite(drawn[~negative]).all())
    observed = model.observation()
    found = importance_particles(model, PriorProposal(model), observed, 1000, seed=1)
    bad = ~model.has_meaning(found.latents, observed)
    assert bool((found.log_weights[bad] == -math.inf).all())
    assert bool(torch.isfinite(found.log_weights[~bad]).all())
    assert bool(torch.isfinite(found.mean()).all())


def test_the_model_itself_goes_on_refusing_them():
    model = Model.from_graph(graph_of(OBSERVED))
    model.forgiving()
    bad = torch.tensor([[-1.0]], dtype=torch.float64)
    with pytest.raises(ModelError, match="standard deviation"):
        model.log_joint(bad, model.observation())


def test_a_distribution_that_is_one_for_no_draw_is_an_error_all_the_same():
    text = "(let [s (sample (exponential 1)) x (sample (normal 0 (- s)))] x)"
    model = Model.from_graph(graph_of(text)).forgiving()
    with pytest.raises(ModelError, match="standard deviation"):
        model.sample_latents(100, generator=torch.Generator().manual_seed(0))


def test_a_row_without_meaning_leaves_the_gradients_of_others_as_they_are():
    """Seen: one such row among a thousand, and no row had a gradient."""
    model = Model.from_graph(graph_of(OBSERVED)).forgiving()
    rows = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64).requires_grad_()
    found = model.log_joint(rows, model.observation())
    assert float(found[1].detach()) == -math.inf
    (slope,) = torch.autograd.grad(found.sum(), rows)
    s = rows[[0, 2], 0].detach()
    # of log N(s; 1, 1) + log N(1; 0, s), in closed form
    assert torch.allclose(slope[[0, 2], 0], 1.0 - s - 1.0 / s + s**-3)

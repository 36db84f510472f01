"""Tests of draws of scales, and of nearly Gaussian latents around modes given these."""

import math

import pytest
import scipy.stats
import torch

from flows.inference.importance import importance_particles
from flows.inference.proposal import PriorProposal
from flows.model.model import Model
from flows.nested_laplace.nesting import Nesting
from flows.nested_laplace.proposal import NestedProposal
from flows.nested_laplace.target import laplace_marginal
from tests.flows.nested_laplace.programs import (
    COUNTS,
    OUTLIERS,
    POSITIVE,
    RETURNS,
    STEPS,
    by_quadrature,
    counts,
    outliers,
    positive,
    returns,
    steps,
)

GAMMA = scipy.stats.gamma(2, scale=0.5)


def nesting(program, **options):
    model = Model.from_program(program).forgiving()
    return model, Nesting(laplace_marginal(model), **options)


@pytest.mark.parametrize(
    ("program", "given", "prior", "ends", "options"),
    [
        (COUNTS, counts, GAMMA, (0.0, 8.0), {}),
        (COUNTS, counts, GAMMA, (0.0, 8.0), {"num_inner": 1}),
        (COUNTS, counts, GAMMA, (0.0, 8.0), {"freedom": 4.0}),
        (POSITIVE, positive, GAMMA, (0.0, 8.0), {}),
        (STEPS, steps, GAMMA, (0.0, 8.0), {}),
        pytest.param(
            RETURNS,
            returns,
            scipy.stats.gamma(2, scale=0.25),
            (0.03, 4.0),
            {},
            marks=pytest.mark.slow,
        ),
        (OUTLIERS, outliers, scipy.stats.halfnorm(), (0.0, 5.0), {"freedom": 4.0}),
    ],
)
def test_weights_are_exact(program, given, prior, ends, options):
    model, nested = nesting(program, **options)
    proposal = NestedProposal(PriorProposal(nested.marginal), nested)
    found = importance_particles(
        model, proposal, model.observation(), 6_000, seed=1, batch_size=1_000
    )
    evidence, scale, latent = by_quadrature(given, prior, *ends)
    error = 1.0 / math.sqrt(found.totals.ess)
    assert error < 0.05
    assert found.totals.log_evidence == pytest.approx(evidence, abs=4.0 * error)
    weights = found.normalized_weights
    place = {COUNTS: 6, POSITIVE: 6, STEPS: 6, OUTLIERS: 5, RETURNS: -1}[program]
    for column, wanted in ((0, scale), (place, latent)):
        values = found.latents[:, column]
        mean = weights @ values
        sd = float((weights @ (values - mean).square()).sqrt())
        assert float(mean) == pytest.approx(wanted, abs=4.0 * sd * error)


def test_a_density_at_given_places_keeps_the_mean_weight():
    # Over places of the posterior 1 / weight has the mean 1 / evidence.
    model, nested = nesting(COUNTS)
    proposal = NestedProposal(PriorProposal(nested.marginal), nested)
    observed = model.observation()
    found = importance_particles(
        model, proposal, observed, 20_000, seed=2, batch_size=1_000
    )
    generator = torch.Generator().manual_seed(0)
    rows = torch.multinomial(
        found.normalized_weights, 4_000, replacement=True, generator=generator
    )
    latents = found.latents[rows]
    none = torch.zeros(len(latents), 0, dtype=torch.float64)
    log_prob = proposal.log_prob(latents, none, observed)
    inverse = log_prob - model.log_joint(latents, observed)
    mean = float(inverse.logsumexp(0)) - math.log(len(latents))
    evidence, _, _ = by_quadrature(counts, GAMMA, 0.0, 8.0)
    assert mean == pytest.approx(-evidence, abs=0.15)


def test_a_row_without_meaning_weighs_nothing():
    model, nested = nesting(COUNTS.replace("(normal 0.3 s)", "(normal 0.3 (- s 0.5))"))
    proposal = NestedProposal(PriorProposal(nested.marginal), nested)
    found = importance_particles(model, proposal, model.observation(), 2_000, seed=1)
    has_meaning = found.latents[:, 0] > 0.5
    assert 100 < int(has_meaning.sum()) < 1_900
    assert bool((found.log_weights[~has_meaning] == -math.inf).all())
    assert bool(found.log_weights[has_meaning].isfinite().all())


def test_a_draw_that_had_no_meaning_is_no_other_draw():
    # Where a is above 1 the scale of b is none; at a = 0, b = 0 it is.
    program = """
(let [a (sample (normal 0 1))
      b (foreach 9 [] (sample (normal 0 (- 1 a))))]
  (foreach 9 [bi b yi [0 1 2 0 1 0 1 0 1]] (observe (poisson (exp bi)) yi))
  a)"""
    model, nested = nesting(program)
    proposal = NestedProposal(PriorProposal(nested.marginal), nested)
    found = importance_particles(
        model, proposal, model.observation(), 5_000, seed=3, batch_size=1_000
    )
    share = float(scipy.stats.norm.sf(1.0))
    lost = found.log_weights == -math.inf
    assert int(lost.sum()) == pytest.approx(5_000 * share, rel=0.2)
    assert bool((found.latents[~lost, 0] < 1.0).all())
    assert not bool((found.latents[~lost, 0] == 0.0).any())


def test_a_draw_around_which_nothing_has_weight_has_no_values_and_no_weight():
    """Below a mean of about 0 no try is positive, and values of 0 would be likely."""
    levels = " ".join(f"b{i} (sample (normal m 1))" for i in range(9))
    data = " ".join(f"(observe (poisson b{i}) 0)" for i in range(9))
    model, nested = nesting(
        f"(let [m (sample (student-t-loc-scale 4 1 1)) {levels}] {data} m)"
    )
    proposal = NestedProposal(PriorProposal(nested.marginal), nested)
    found = importance_particles(
        model, proposal, model.observation(), 2_000, seed=1, batch_size=1_000
    )
    is_lost = torch.isnan(found.latents).any(1)
    assert is_lost.any()
    assert not is_lost.all()
    assert bool((found.log_weights[is_lost] == -math.inf).all())
    assert bool((found.latents[~is_lost][:, 1:] > 0.0).all())

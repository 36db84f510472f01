"""Tests of flows.learning.likelihood."""

import numpy as np
import pytest
import torch
from scipy import optimize

from flows.learning.likelihood import Likelihood, NoLatents, RowDraws
from flows.learning.parted import PartedModel

from .programs import (
    COMPONENTS,
    HIERARCHICAL,
    MARKOV,
    PATHS,
    Conjugate,
    hierarchical_log_posterior,
    model_of,
    rows_of,
)

VALUES = torch.tensor([0.5, 0.8, 1.2], dtype=torch.float64)


def hierarchical(num=6):
    model = model_of(HIERARCHICAL)
    parted = PartedModel.of(model, [*COMPONENTS])
    data = rows_of(model, COMPONENTS, num, 0)
    return Likelihood(parted, data)


def exact_rows(values, data):
    prior = hierarchical_log_posterior(values, np.zeros((0, 4)))
    return np.array(
        [hierarchical_log_posterior(values, row[None]) - prior for row in data]
    )


def test_draws_of_the_posterior_itself_give_the_likelihood_exactly():
    likelihood = hierarchical()
    generator = torch.Generator().manual_seed(0)
    draws = Conjugate(1.0).draw(VALUES, likelihood.data, 3, generator=generator)
    found = likelihood.terms(VALUES, draws)
    exact = exact_rows(VALUES.numpy(), likelihood.data.numpy())
    assert np.allclose(found.log_likelihood, exact, atol=1e-10)
    assert torch.allclose(found.ess, torch.full_like(found.ess, 3.0))


def test_scores_are_the_slopes_of_the_likelihood_within_their_noise():
    likelihood = hierarchical()
    generator = torch.Generator().manual_seed(0)
    draws = Conjugate().draw(VALUES, likelihood.data, 20_000, generator=generator)
    found = likelihood.terms(VALUES, draws).scores.sum(0).numpy()
    data = likelihood.data.numpy()
    exact = optimize.approx_fprime(
        VALUES.numpy(), lambda values: exact_rows(values, data).sum(), 1e-6
    )
    errors = likelihood.noise(VALUES, draws).diagonal().sqrt().numpy()
    assert np.all(np.abs(found - exact) < 5 * errors + 1e-4)
    assert np.all(errors < 0.1)


def test_many_rows_at_once_and_few_give_the_same(monkeypatch):
    likelihood = hierarchical()
    generator = torch.Generator().manual_seed(0)
    draws = Conjugate().draw(VALUES, likelihood.data, 10, generator=generator)
    whole, noise = likelihood.terms(VALUES, draws), likelihood.noise(VALUES, draws)
    monkeypatch.setattr("flows.learning.likelihood._MOST_NUMBERS", 100)
    parts = likelihood.terms(VALUES, draws)
    assert torch.allclose(whole.log_likelihood, parts.log_likelihood)
    assert torch.allclose(whole.scores, parts.scores)
    assert torch.allclose(noise, likelihood.noise(VALUES, draws))


def test_discrete_latents_are_summed_over_every_path():
    model = model_of(MARKOV)
    parted = PartedModel.of(model, [*PATHS])
    data = rows_of(model, PATHS, 4, 0)
    values = torch.tensor([0.8, 0.2, 0.3, 0.7, -1.0, 1.5], dtype=torch.float64)
    draws = NoLatents().draw(values, data, 7, generator=torch.Generator())
    found = Likelihood(parted, data).terms(values, draws)
    rows, means = np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([-1.0, 1.5])
    for row, log_likelihood in zip(
        data.numpy(), found.log_likelihood.tolist(), strict=True
    ):
        chance = np.array([0.5, 0.5])
        total = 0.0
        for y in row:
            chance = chance @ rows
            chance = chance * np.exp(-0.5 * (y - means) ** 2) / np.sqrt(2 * np.pi)
            total += np.log(chance.sum())
            chance = chance / chance.sum()
        assert np.isclose(log_likelihood, total, atol=1e-10)
    assert not bool(Likelihood(parted, data).noise(values, draws).any())


def test_the_total_is_the_sum_of_the_rows_without_repeated_parameters(monkeypatch):
    likelihood = hierarchical(7)
    generator = torch.Generator().manual_seed(0)
    draws = Conjugate().draw(VALUES, likelihood.data, 10, generator=generator)
    terms = likelihood.terms(VALUES, draws)
    monkeypatch.setattr("flows.learning.likelihood._AT_ONCE", 100)
    # Nothing but `terms` repeats parameters.
    monkeypatch.setattr(Likelihood, "terms", None)
    height, slope = likelihood.total(VALUES, draws)
    assert np.isclose(height, float(terms.log_likelihood.sum()), rtol=1e-12)
    assert torch.allclose(slope, terms.scores.sum(0), rtol=1e-10)
    assert torch.allclose(likelihood.ess(VALUES, draws), terms.ess)


def test_a_draw_without_a_slope_does_not_take_it_from_the_total():
    """A draw of z below 0 has no meaning, weight 0, and the slope nan."""
    model = model_of("""
        (let [s (sample (half-normal 1))
              z (sample (normal 0 1))]
          (observe (normal 0 (* s (sqrt z))) 0.3)
          z)""")
    likelihood = Likelihood(
        PartedModel.of(model, ["s"]), torch.full((1, 1), 0.3).double()
    )
    latents = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
    draws = RowDraws(latents, torch.zeros(3, 1, dtype=torch.float64))
    values = torch.ones(1, dtype=torch.float64)
    height, slope = likelihood.total(values, draws)
    scale = latents.flatten()[[0, 2]].sqrt()
    z = latents.flatten()[[0, 2]]
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    log_p = log_p + torch.distributions.Normal(0.0, scale).log_prob(torch.tensor(0.3))
    weights = log_p.softmax(0)
    assert np.isclose(height, float(log_p.logsumexp(0)) - np.log(3.0))
    assert np.isclose(float(slope), float((weights * (0.09 / scale**2 - 1.0)).sum()))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            """(let [b (sample (gamma 2 1)) z (sample (uniform-continuous 0 b))]
                 (observe (normal z 1) 0.3) z)""",
            ["b"],
        ),
        (
            """(let [a (sample (gamma 2 1)) r (sample (gamma 2 1))
                     z (sample (gamma a r))]
                 (observe (poisson z) 2) z)""",
            ["a", "r"],
        ),
        (
            """(let [s (sample (half-normal 1))
                     z (sample (mvn [0 0] [[s 0] [0 1]]))]
                 (observe (mvn z [[1 0] [0 s]]) [0.1 0.2]) z)""",
            ["s"],
        ),
        (
            """(let [m (sample (normal 0 1)) x (observe (normal m 1) 0.4)
                     z (sample (normal x 1))]
                 (observe (normal (* m z) 1) 0.3) z)""",
            ["m"],
        ),
    ],
    ids=["bounds", "counts", "vectors", "latents between data"],
)
def test_the_total_is_the_sum_of_the_rows_of_any_family(text, names):
    model = model_of(text)
    parted = PartedModel.of(model, names)
    generator = torch.Generator().manual_seed(0)
    data = model.sample(4, generator=generator).observed
    values = parted.prior.sample_latents(1, generator=generator)[0]
    observed = parted.observed(values, data)[0]
    latents = parted.rows.sample_latents(24, generator=generator, observed=observed)
    draws = RowDraws(latents.view(6, 4, -1), torch.zeros(6, 4, dtype=torch.float64))
    likelihood = Likelihood(parted, data)
    for place in (values, 0.6 * values):
        terms = likelihood.terms(place, draws)
        height, slope = likelihood.total(place, draws)
        assert np.isclose(height, float(terms.log_likelihood.sum()), rtol=1e-12)
        assert torch.allclose(slope, terms.scores.sum(0), rtol=1e-10)

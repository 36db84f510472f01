"""Tests of flows.inference.proposal."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from flows.inference.log_weight import checked_log_weights
from flows.inference.proposal import DefensiveMixture, PriorProposal

from .targets import NormalChain, NormalProposal, seeded

DATA = torch.tensor([0.8], dtype=torch.float64)
NONE = torch.empty((1, 0), dtype=torch.float64)


def narrow(nuisance_dim=0):
    width = 1 + nuisance_dim
    factor = 0.2 * torch.eye(width, dtype=torch.float64)
    factor[1:, 0] = 0.1
    return NormalProposal(
        torch.full((width,), 0.4, dtype=torch.float64), factor, nuisance_dim
    )


def test_the_prior_proposal_draws_from_the_prior_with_its_density():
    model = NormalChain(num_steps=1, initial=2.0)
    draw = PriorProposal(model).rsample_and_log_prob(DATA, 4000, generator=seeded())
    expected = stats.norm(0, 2).logpdf(draw.latents[:, 0].numpy())
    np.testing.assert_allclose(draw.log_prob.numpy(), expected)
    assert draw.nuisances.shape == (4000, 0)
    assert stats.kstest(draw.latents[:, 0].numpy(), stats.norm(0, 2).cdf).pvalue > 1e-4


class Autoregression(NormalChain):
    """A latent that reads the data: z ~ N(x, 0.5)."""

    def sample_latents(self, num, *, generator, observed):
        noise = torch.randn((num, 1), dtype=torch.float64, generator=generator)
        return observed + 0.5 * noise

    def log_prior(self, latents, observed):
        return torch.distributions.Normal(observed, 0.5).log_prob(latents)[..., 0]


def test_a_latent_that_reads_the_data_is_drawn_given_the_data():
    data = torch.tensor([7.0], dtype=torch.float64)
    proposal = PriorProposal(Autoregression())
    draw = proposal.rsample_and_log_prob(data, 4000, generator=seeded())
    law = stats.norm(7.0, 0.5)
    assert stats.kstest(draw.latents[:, 0].numpy(), law.cdf).pvalue > 1e-4
    expected = law.logpdf(draw.latents[:, 0].numpy())
    np.testing.assert_allclose(draw.log_prob.numpy(), expected)
    again = proposal.log_prob(draw.latents, draw.nuisances, data)
    np.testing.assert_allclose(again.numpy(), expected)


@pytest.mark.parametrize("nuisance_dim", [0, 2])
def test_the_density_of_a_mixture_draw_is_the_density_evaluated_at_it(nuisance_dim):
    mixture = DefensiveMixture(narrow(nuisance_dim), PriorProposal(NormalChain()), 0.3)
    draw = mixture.rsample_and_log_prob(DATA, 500, generator=seeded())
    again = mixture.log_prob(draw.latents, draw.nuisances, DATA)
    torch.testing.assert_close(draw.log_prob, again)
    assert draw.nuisances.shape == (500, nuisance_dim)


def test_the_mixture_integrates_to_one():
    mixture = DefensiveMixture(narrow(), PriorProposal(NormalChain()), 0.3)

    def density(z):
        point = torch.tensor([[z]], dtype=torch.float64)
        return math.exp(float(mixture.log_prob(point, NONE, DATA)))

    total, _ = integrate.quad(density, -12, 12, points=[0.0, 0.4], limit=200)
    assert total == pytest.approx(1.0, abs=1e-7)


def test_the_mixture_with_nuisances_integrates_to_one_over_latent_and_nuisance():
    """Times N(y; 0, 1), the density is a proper one over (z, y)."""
    mixture = DefensiveMixture(narrow(1), PriorProposal(NormalChain()), 0.3)
    edge = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    z, y = (axis.reshape(-1, 1) for axis in torch.meshgrid(edge, edge, indexing="ij"))
    log_q = mixture.log_prob(z, y, DATA)
    log_reference = torch.distributions.Normal(0.0, 1.0).log_prob(y[:, 0])
    total = float((log_q + log_reference).exp().sum()) * 0.01**2
    assert total == pytest.approx(1.0, abs=1e-6)


def test_each_part_of_the_mixture_is_drawn_with_its_share():
    """Draws follow the mixture's distribution function (one false alarm in 10,000)."""
    mixture = DefensiveMixture(narrow(), PriorProposal(NormalChain()), 0.3)
    draw = mixture.rsample_and_log_prob(DATA, 20_000, generator=seeded(4))

    def distribution(z):
        return 0.7 * stats.norm(0.4, 0.2).cdf(z) + 0.3 * stats.norm(0, 1).cdf(z)

    assert stats.kstest(draw.latents[:, 0].numpy(), distribution).pvalue > 1e-4
    # Both parts are spread over the whole batch, so that any prefix is a mixture too.
    assert stats.kstest(draw.latents[:5000, 0].numpy(), distribution).pvalue > 1e-4


def test_the_mixture_bounds_the_weights():
    """No weight exceeds max p(x | z) / α; the narrow part alone has no bound."""
    model = NormalChain()
    mixture = DefensiveMixture(narrow(2), PriorProposal(model), 0.1)
    draw = mixture.rsample_and_log_prob(DATA, 5000, generator=seeded())
    bound = stats.norm(0, model.noise).logpdf(0.0) - math.log(0.1)
    far = torch.tensor([[30.0]], dtype=torch.float64)
    nuisance = torch.zeros((1, 2), dtype=torch.float64)
    assert float(checked_log_weights(model, draw, DATA).max()) <= bound
    log_joint = model.log_joint(far, DATA)
    assert float(log_joint - mixture.log_prob(far, nuisance, DATA)) <= bound
    assert float(log_joint - narrow(2).log_prob(far, nuisance, DATA)) > bound


@pytest.mark.parametrize("num", [1, 2])
def test_a_part_that_gets_no_draw_is_left_out(num):
    mixture = DefensiveMixture(narrow(1), PriorProposal(NormalChain()), 0.5)
    for seed in range(8):
        draw = mixture.rsample_and_log_prob(DATA, num, generator=seeded(seed))
        assert draw.latents.shape == (num, 1)


@pytest.mark.parametrize("weight", [0.0, 1.0, math.nan])
def test_a_share_that_is_no_share_is_refused(weight):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        DefensiveMixture(narrow(), PriorProposal(NormalChain()), weight)


def test_a_broad_part_with_nuisances_is_refused():
    with pytest.raises(
        ValueError, match="nuisances of the broad part; expected none; got 1"
    ):
        DefensiveMixture(narrow(), narrow(1), 0.5)

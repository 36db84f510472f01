"""Hand-written models with exact answers, for the tests of flows.inference.

`NormalChain`: x_0 ~ N(0, s), x_t ~ N(x_{t-1}, q), y_t ~ N(x_t, r). Everything is
jointly normal, so the posterior and the evidence follow from one covariance matrix.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from flows.inference.columns import columns_of
from flows.inference.importance import importance_particles
from flows.inference.proposal import ProposalDraw
from flows.model.draws import Draws
from flows.model.layout import Layout


def layout_of(latents, observed=()):
    """Return the layout of variables given as (name, label, shape)."""
    return Layout(columns_of(latents), columns_of(observed))


def normal_log_prob(value, mean, scale):
    return torch.distributions.Normal(mean, scale).log_prob(value)


@dataclass(frozen=True)
class NormalChain:
    """A linear-Gaussian state-space model; scales are standard deviations."""

    num_steps: int = 1
    initial: float = 1.0
    transition: float = 0.5
    noise: float = 0.7

    @property
    def layout(self):
        return layout_of(
            *(
                [(f"{kind}{t}", f"{letter}{t}", ()) for t in range(self.num_steps)]
                for kind, letter in (("sample", "z"), ("observe", "y"))
            )
        )

    def sample(self, num, *, generator):
        shape = (num, self.num_steps)
        noise = torch.randn(shape, dtype=torch.float64, generator=generator)
        scales = torch.full((self.num_steps,), self.transition, dtype=torch.float64)
        scales[0] = self.initial
        latents = (noise * scales).cumsum(1)
        noise = torch.randn(shape, dtype=torch.float64, generator=generator)
        return Draws(latents, latents + self.noise * noise)

    def sample_latents(self, num, *, generator, observed):
        return self.sample(num, generator=generator).latents

    def log_prior(self, latents, observed=None):
        first = normal_log_prob(latents[..., 0], 0.0, self.initial)
        rest = normal_log_prob(latents[..., 1:], latents[..., :-1], self.transition)
        return first + rest.sum(-1)

    def log_likelihood_terms(self, latents, observed):
        return normal_log_prob(observed, latents, self.noise)

    def log_joint(self, latents, observed):
        return self.log_prior(latents) + self.log_likelihood_terms(
            latents, observed
        ).sum(-1)

    def constrain(self, free):
        return free, free.new_zeros(free.shape[:-1])

    def unconstrain(self, latents):
        return latents, latents.new_zeros(latents.shape[:-1])

    def at_edge(self, free):
        return torch.zeros_like(free, dtype=torch.bool)

    def posterior(self, observed):
        """Return mean, covariance of the latents and the log evidence."""
        steps = np.arange(self.num_steps)
        prior = self.initial**2 + self.transition**2 * np.minimum.outer(steps, steps)
        marginal = prior + self.noise**2 * np.eye(self.num_steps)
        gain = np.linalg.solve(marginal, prior).T
        data = observed.numpy()
        law = stats.multivariate_normal(np.zeros(self.num_steps), marginal)
        return gain @ data, prior - gain @ prior, float(law.logpdf(data))


@dataclass(frozen=True)
class NormalProposal:
    """N(mean, factor factorᵀ) over latents and nuisances, or exactly the posterior."""

    mean: Tensor
    factor: Tensor
    nuisance_dim: int = 0

    @classmethod
    def from_moments(cls, mean, covariance, nuisance_dim=0):
        factor = torch.linalg.cholesky(torch.as_tensor(covariance))
        return cls(torch.as_tensor(mean), factor, nuisance_dim)

    def _law(self):
        return torch.distributions.MultivariateNormal(self.mean, scale_tril=self.factor)

    def _reference(self, nuisances):
        return normal_log_prob(nuisances, 0.0, 1.0).sum(-1)

    def rsample_and_log_prob(self, observed, num_particles, *, generator):
        noise = torch.randn(
            (num_particles, self.mean.shape[0]),
            dtype=torch.float64,
            generator=generator,
        )
        joint = self.mean + noise @ self.factor.T
        split = joint.shape[1] - self.nuisance_dim
        nuisances = joint[:, split:]
        log_prob = self._law().log_prob(joint) - self._reference(nuisances)
        return ProposalDraw(joint[:, :split], nuisances, log_prob)

    def log_prob(self, latents, nuisances, observed):
        joint = torch.cat([latents, nuisances], 1)
        return self._law().log_prob(joint) - self._reference(nuisances)


def seeded(seed=0):
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


def check_moments(result, mean, covariance):
    """Check means and covariances of an SmcResult within 4 standard errors.

    A covariance is the mean of a product, and has that mean's standard error, which is
    found on so many lines of descent as are left: the limit is that of Student's t, at
    the level of 4 standard errors of one number for all of them together. Of more than
    20 latents only neighbours.
    """
    errors = result.mean_standard_error().numpy()
    deviation = np.sqrt(np.diag(covariance))
    # Errors that are wide enough for anything would show nothing.
    assert (errors < 0.5 * deviation).all()
    found = result.particles.mean().numpy()
    assert (np.abs(found - mean) < 4 * errors + 1e-6).all()
    rows, columns = np.triu_indices(len(mean))
    if len(mean) > 20:
        is_near = columns - rows <= 1
        rows, columns = rows[is_near], columns[is_near]
    centred = result.particles.latents - torch.tensor(found)
    products = centred[:, rows] * centred[:, columns]
    errors = result.standard_error(products).numpy()
    size = deviation[rows] * deviation[columns]
    assert (errors < size).all()
    gap = result.particles.normalized_weights.numpy() @ products.numpy()
    gap -= covariance[rows, columns]
    limit = stats.t(result.ess - 1).isf(stats.norm.sf(4) / len(gap))
    assert (np.abs(gap) < limit * errors + 1e-6 * size).all()


def weighed_chain(num_particles, *, widen):
    """Particles of a chain of two, from its posterior with a wider covariance.

    Returns them with the exact mean, covariance and log evidence.
    """
    model = NormalChain(num_steps=2)
    data = torch.tensor([0.5, 1.0], dtype=torch.float64)
    mean, covariance, exact = model.posterior(data)
    proposal = NormalProposal.from_moments(mean, widen * covariance)
    particles = importance_particles(model, proposal, data, num_particles, seed=0)
    return particles, mean, covariance, exact


def result_of(reports):
    """Return the result that the last report of a run carries."""
    *_, last = reports
    return last.result

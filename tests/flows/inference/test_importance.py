"""Tests of flows.inference.importance."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from flows.errors import InferenceError
from flows.inference.importance import (
    batch_generator,
    importance_particles,
    importance_sample,
)
from flows.inference.particles import Particles
from flows.inference.proposal import DefensiveMixture, PriorProposal, ProposalDraw

from .targets import NormalChain, NormalProposal

MODEL = NormalChain(num_steps=3)
DATA = torch.tensor([0.9, -0.2, 1.4], dtype=torch.float64)
MEAN, COVARIANCE, LOG_EVIDENCE = MODEL.posterior(DATA)


def wide():
    return NormalProposal.from_moments(MEAN, 1.5 * COVARIANCE)


def with_nuisances():
    """The exact posterior for z, and y | z off its reference on purpose."""
    covariance = np.eye(4)
    covariance[:3, :3] = 1.3 * COVARIANCE
    covariance[3, :3] = covariance[:3, 3] = 0.1
    return NormalProposal.from_moments(np.append(MEAN, 0.2), covariance, 1)


PROPOSALS = {
    "prior": lambda: PriorProposal(MODEL),
    "wide": wide,
    "nuisances": with_nuisances,
    "defensive": lambda: DefensiveMixture(with_nuisances(), PriorProposal(MODEL), 0.2),
}


@pytest.mark.parametrize("name", PROPOSALS)
def test_evidence_and_means_agree_with_the_exact_answer(name):
    """Within 4 of their own standard errors, with 20,000 particles."""
    particles = importance_particles(
        MODEL, PROPOSALS[name](), DATA, 20_000, seed=1, batch_size=7000
    )
    totals = particles.totals
    error = totals.log_evidence_standard_error
    assert abs(totals.log_evidence - LOG_EVIDENCE) < 4 * error
    assert 0 < error < 0.05
    deviation = (
        particles.mean().numpy() - MEAN
    ) / particles.mean_standard_error().numpy()
    assert float(np.abs(deviation).max()) < 4


@pytest.mark.parametrize("name", PROPOSALS)
def test_the_evidence_is_unbiased_over_1000_repetitions(name):
    """The mean of Z / exact over 1,000 runs of 50 particles is 1 within 4 errors."""
    proposal = PROPOSALS[name]()
    ratios = [
        math.exp(
            importance_particles(
                MODEL, proposal, DATA, 50, seed=seed
            ).totals.log_evidence
            - LOG_EVIDENCE
        )
        for seed in range(1000)
    ]
    error = np.std(ratios, ddof=1) / math.sqrt(1000)
    assert abs(np.mean(ratios) - 1.0) < 4 * error
    assert error < 0.05


def test_the_exact_posterior_as_proposal_gives_equal_weights():
    exact = NormalProposal.from_moments(MEAN, COVARIANCE)
    particles = importance_particles(MODEL, exact, DATA, 100, seed=0)
    torch.testing.assert_close(
        particles.log_weights, torch.full((100,), LOG_EVIDENCE, dtype=torch.float64)
    )


def test_reports_carry_one_batch_each_and_the_totals_so_far():
    reports = list(importance_sample(MODEL, wide(), DATA, 25, seed=3, batch_size=10))
    assert [report.particles.num_particles for report in reports] == [10, 10, 5]
    assert [report.totals.num_particles for report in reports] == [10, 20, 25]
    assert all(report.num_planned == 25 for report in reports)
    whole = Particles.merge(report.particles for report in reports)
    assert reports[-1].totals.log_sum == pytest.approx(whole.totals.log_sum)


def test_a_batch_follows_from_seed_and_number_and_leaves_global_state_alone():
    before = torch.get_rng_state()
    first = importance_particles(MODEL, wide(), DATA, 25, seed=3, batch_size=10)
    again = importance_particles(MODEL, wide(), DATA, 25, seed=3, batch_size=10)
    other = importance_particles(MODEL, wide(), DATA, 25, seed=4, batch_size=10)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.log_weights, again.log_weights)
    assert not torch.equal(first.latents, other.latents)
    assert not torch.equal(first.latents[:10], first.latents[10:20])


def test_generators_of_different_batches_and_seeds_differ():
    seeds = {
        batch_generator(seed, batch).initial_seed()
        for seed in range(30)
        for batch in range(30)
    }
    assert len(seeds) == 900


@dataclass(frozen=True)
class Spoiled:
    """A target that returns `value` for the first `count` rows."""

    value: float
    count: int
    dtype: torch.dtype = torch.float64

    layout = MODEL.layout

    def log_joint(self, latents, observed):
        log_joint = MODEL.log_joint(latents, observed).clone()
        log_joint[: self.count] = self.value
        return log_joint.to(self.dtype)


def test_zero_weights_are_legal():
    particles = importance_particles(Spoiled(-math.inf, 30), wide(), DATA, 100, seed=0)
    assert particles.totals.num_zero == 30
    assert bool(particles.mean().isfinite().all())


def test_no_positive_weight_is_evidence_zero_not_an_error():
    particles = importance_particles(Spoiled(-math.inf, 100), wide(), DATA, 100, seed=0)
    assert particles.totals.log_evidence == -math.inf
    assert particles.totals.ess == 0.0


@pytest.mark.parametrize(
    ("value", "words"),
    [(math.nan, "7 nan and 0"), (math.inf, r"0 nan and 7 \+inf among 100")],
)
def test_densities_that_are_no_numbers_are_errors_with_their_count(value, words):
    with pytest.raises(InferenceError, match=words):
        importance_particles(Spoiled(value, 7), wide(), DATA, 100, seed=0)


def test_a_density_in_single_precision_is_refused():
    target = Spoiled(0.0, 0, torch.float32)
    with pytest.raises(InferenceError, match=r"target: .*expected float64"):
        importance_particles(target, wide(), DATA, 10, seed=0)


def test_a_draw_without_density_under_its_own_proposal_is_refused():
    class Wrong:
        nuisance_dim = 0

        def rsample_and_log_prob(self, observed, num_particles, *, generator):
            draw = wide().rsample_and_log_prob(
                observed, num_particles, generator=generator
            )
            return ProposalDraw(draw.latents, draw.nuisances, draw.log_prob - math.inf)

    with pytest.raises(InferenceError, match="density 0 for 10 of 10 draws"):
        importance_particles(MODEL, Wrong(), DATA, 10, seed=0)


@pytest.mark.parametrize("numbers", [{"num_particles": 0}, {"batch_size": 0}])
def test_numbers_that_are_not_positive_are_refused_at_once(numbers):
    arguments = {"num_particles": 10, "batch_size": 10} | numbers
    with pytest.raises(ValueError, match="expected 1 or more; got 0"):
        importance_sample(MODEL, wide(), DATA, seed=0, **arguments)

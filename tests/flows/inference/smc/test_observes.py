"""Tests of flows.inference.smc.observes."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from flows.errors import InferenceError
from flows.inference.proposal import PriorProposal
from flows.inference.resampling import SCHEMES
from flows.inference.smc.observes import init, sequential_smc, step
from flows.inference.smc.result import summarize_smc
from flows.inference.smc.sequence import ObserveSequence, Step

from ..targets import NormalChain, NormalProposal, normal_log_prob, result_of
from ..unbiased import check_unbiased


@dataclass(frozen=True)
class ChainSequence:
    """The chain drawn step by step from its prior (bootstrap filter)."""

    model: NormalChain
    observed: torch.Tensor

    @property
    def num_steps(self):
        return self.model.num_steps

    def start(self, num_particles, *, generator):
        noise = torch.randn(
            (num_particles, 1), dtype=torch.float64, generator=generator
        )
        return self._weighed(self.model.initial * noise)

    def extend(self, state, step, *, generator):
        noise = torch.randn(
            (state.shape[0], 1), dtype=torch.float64, generator=generator
        )
        new = state[:, -1:] + self.model.transition * noise
        return self._weighed(torch.cat([state, new], 1))

    def _weighed(self, state):
        step = state.shape[1] - 1
        return Step(
            state,
            normal_log_prob(self.observed[step], state[:, step], self.model.noise),
        )

    def latents(self, state):
        return state


def data_of(model, seed=0):
    generator = torch.Generator()
    generator.manual_seed(seed)
    return model.sample(1, generator=generator).observed[0]


MODEL = NormalChain(num_steps=10)
DATA = data_of(MODEL)
MEAN, COVARIANCE, LOG_EVIDENCE = MODEL.posterior(DATA)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_evidence_and_means_agree_with_the_exact_answer(scheme):
    """Within 4 of their own standard errors; 20,000 particles, 10 steps."""
    result = result_of(
        sequential_smc(ChainSequence(MODEL, DATA), 20_000, seed=1, scheme=scheme)
    )
    error = result.log_evidence_standard_error
    assert 0.002 < error < 0.05
    assert abs(result.log_evidence - LOG_EVIDENCE) < 4 * error
    deviation = result.particles.mean().numpy() - MEAN
    errors = result.mean_standard_error().numpy()
    assert (np.abs(deviation) < 4 * errors).all()
    assert (errors < 0.2 * np.sqrt(np.diag(COVARIANCE))).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_chain_of_100_steps_agrees_with_the_exact_answer(scheme):
    model = NormalChain(num_steps=100)
    data = data_of(model)
    mean, covariance, exact = model.posterior(data)
    result = result_of(
        sequential_smc(ChainSequence(model, data), 20_000, seed=2, scheme=scheme)
    )
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence - exact) < 4 * error
    assert error < 0.2
    # The last latents have the filter's precision; the first share few ancestors.
    deviation = (result.particles.mean().numpy() - mean)[-5:]
    assert (np.abs(deviation) < 4 * result.mean_standard_error().numpy()[-5:]).all()
    assert (np.abs(deviation) < 0.1 * np.sqrt(np.diag(covariance))[-5:]).all()


@pytest.mark.parametrize(
    "scheme",
    [
        pytest.param(name, marks=[] if name == "systematic" else pytest.mark.slow)
        for name in SCHEMES
    ],
)
def test_the_evidence_is_unbiased_over_1000_repetitions(scheme):
    """The mean of Z / exact over 1,000 runs of 100 particles is 1 within 4 errors."""
    model = NormalChain(num_steps=5)
    data = data_of(model, 1)
    exact = model.posterior(data)[2]
    sequence = ChainSequence(model, data)
    check_unbiased(
        lambda seed: sequential_smc(sequence, 100, seed=seed, scheme=scheme),
        exact,
        largest_error=0.02,
        least_resampled=1000,
    )


def test_without_resampling_the_weights_are_those_of_importance_sampling():
    model = NormalChain(num_steps=4)
    data = data_of(model, 2)
    mean, covariance, exact = model.posterior(data)
    proposal = NormalProposal.from_moments(mean, 1.4 * covariance)
    sequence = ObserveSequence(model, proposal, data)
    result = result_of(sequential_smc(sequence, 5000, seed=0, ess_threshold=0.0))
    particles = result.particles
    expected = model.log_joint(particles.latents, data) - proposal.log_prob(
        particles.latents, particles.latents[:, :0], data
    )
    torch.testing.assert_close(particles.log_weights, expected)
    plain = particles.totals
    assert result.log_evidence_standard_error == pytest.approx(
        plain.log_evidence_standard_error
    )
    assert result.num_eves == 5000
    torch.testing.assert_close(
        result.mean_standard_error(), particles.mean_standard_error(), rtol=1e-3, atol=0
    )
    assert abs(result.log_evidence - exact) < 4 * plain.log_evidence_standard_error


def test_observes_enter_one_by_one_and_resampling_keeps_the_answer():
    model = NormalChain(num_steps=4)
    data = data_of(model, 2)
    mean, _, exact = model.posterior(data)
    sequence = ObserveSequence(model, PriorProposal(model), data)
    reports = list(sequential_smc(sequence, 20_000, seed=0, ess_threshold=0.9))
    assert [report.progress for report in reports] == [0.25, 0.5, 0.75, 1.0]
    assert any(report.has_resampled for report in reports)
    assert not reports[-1].has_resampled
    first = NormalChain(num_steps=1)
    assert abs(reports[0].log_evidence - first.posterior(data[:1])[2]) < 0.05
    result = reports[-1].result
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence - exact) < 4 * error
    deviation = result.particles.mean().numpy() - mean
    assert (np.abs(deviation) < 4 * result.mean_standard_error().numpy()).all()


def test_a_run_follows_from_its_seed_and_leaves_global_state_alone():
    before = torch.get_rng_state()
    sequence = ChainSequence(MODEL, DATA)
    first, again, other = (
        result_of(sequential_smc(sequence, 50, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.particles.latents, again.particles.latents)
    assert not torch.equal(first.particles.latents, other.particles.latents)


@dataclass(frozen=True)
class Doomed(ChainSequence):
    """Every weight becomes `value` at step 5."""

    value: float = -math.inf

    def extend(self, state, step, *, generator):
        extended = super().extend(state, step, generator=generator)
        if step != 5:
            return extended
        increment = torch.full_like(extended.log_weight_increment, self.value)
        return Step(extended.state, increment)


def test_no_weight_left_is_evidence_zero_not_an_error():
    result = result_of(sequential_smc(Doomed(MODEL, DATA), 50, seed=0))
    assert result.log_evidence == -math.inf
    assert math.isnan(result.log_evidence_standard_error)
    summary = summarize_smc(result)
    assert summary.ess == 0.0
    assert "evidence is 0" in summary.cautions[0].meaning


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_increments_that_are_no_numbers_are_errors(value):
    with pytest.raises(InferenceError, match="among 50 particles"):
        result_of(sequential_smc(Doomed(MODEL, DATA, value), 50, seed=0))


@pytest.mark.parametrize(
    "arguments", [{"num_particles": 0}, {"num_particles": 5, "ess_threshold": 1.5}]
)
def test_numbers_out_of_range_are_refused_at_once(arguments):
    with pytest.raises(ValueError, match="threshold from 0 to 1"):
        sequential_smc(ChainSequence(MODEL, DATA), seed=0, **arguments)


def test_a_step_leaves_its_state_as_it_was():
    """Taken twice from one state with equal draws, it leads to the same place."""
    sequence = ChainSequence(MODEL, DATA)

    def taken(state, seed):
        generator = torch.Generator().manual_seed(seed)
        return step(
            state,
            sequence,
            ess_threshold=1.0,
            scheme="systematic",
            generator=generator,
        )

    state, report = taken(init(50), 0)
    assert report.has_resampled
    before = state.rows.clone()
    (first, _), (again, _) = taken(state, 1), taken(state, 1)
    assert torch.equal(state.rows, before)
    assert state.num_steps == 1
    assert first.rows.shape == (50, 2)
    assert torch.equal(first.rows, again.rows)
    assert torch.equal(first.lineages.eves, again.lineages.eves)

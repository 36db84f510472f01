"""Tests of `infer` on tasks whose exact posterior can be drawn from."""

import numpy as np
import pytest

import flows

from ...oracles.tasks import POSTERIORS, TASKS

EXACT = 40_000


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORS)
def test_moments_are_those_of_exact_draws(name):
    data = TASKS / f"{name}.csv"
    model = flows.Model.compile(
        TASKS / f"{name}.daphne", data=data if data.exists() else None
    )
    exact = POSTERIORS[name](
        model.observation().numpy(), EXACT, np.random.default_rng(1)
    )
    answer = flows.infer(model, seed=1)
    assert answer.is_trusted, answer.cautions
    particles = answer.particles
    weights = particles.normalized_weights.numpy()
    found = particles.latents.numpy()[:, : exact.shape[1]]
    for power in (1, 2, 3):
        mean = weights @ found**power
        known = (exact**power).mean(0)
        sd = (exact**power).std(0)
        error = np.hypot(sd / answer.ess**0.5, sd / EXACT**0.5)
        assert (np.abs(mean - known) < 5.5 * error).all(), (name, power)

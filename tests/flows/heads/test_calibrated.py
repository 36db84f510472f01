"""Tests that weighted draws of trained flows of mixed models are calibrated.

The rank of the truth among draws of the posterior, given data drawn with it, is uniform
(Talts et al. 2018); ties, of discrete values, are broken by chance.
"""

import numpy as np
import pytest
from scipy import stats

import flows
from flows.inference.importance import batch_generator
from tests.flows.heads.programs import MIXED

SUMMED = """
(let [mu (sample (normal 0 2))
      k0 (sample (flip 0.3))
      k1 (sample (discrete [0.2 0.5 0.3]))]
  (observe (normal (if k0 (+ mu 3) mu) 1) 0)
  (observe (normal (* mu k1) 1) 0)
  mu)
"""
NUM_SETS, NUM_DRAWS, NUM_BINS = 480, 31, 16


def _ranks(posterior):
    """Ranks of the truth, [data set, latent], by `train` and `sample` alone."""
    model = posterior.model
    truth = model.sample(NUM_SETS, generator=batch_generator(5, 0))
    rng = np.random.default_rng(6)
    ranks = []
    for latents, data in zip(truth.latents, truth.observed, strict=True):
        particles = posterior.sample(data, 1000, seed=len(ranks))
        weights = particles.normalized_weights.numpy()
        chosen = rng.choice(len(weights), NUM_DRAWS, p=weights / weights.sum())
        draws, own = particles.latents.numpy()[chosen], latents.numpy()
        ties = rng.integers(0, (draws == own).sum(0), endpoint=True)
        ranks.append((draws < own).sum(0) + ties)
    return np.array(ranks)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "heads"), [(SUMMED, "auto"), (MIXED, "all")])
def test_ranks_of_the_truth_are_uniform(text, heads):
    posterior = flows.train(
        flows.Model.from_program(text),
        kind="auto",
        config={"heads": heads, "budget_seconds": 0.0, "max_iterations": 1200},
    )
    assert bool(posterior.artifact.heads) == (heads == "all")
    for ranks in _ranks(posterior).T:
        counts = np.bincount(ranks * NUM_BINS // (NUM_DRAWS + 1), minlength=NUM_BINS)
        assert stats.chisquare(counts).pvalue > 1e-4

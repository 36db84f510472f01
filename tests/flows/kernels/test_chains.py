"""Tests of flows.kernels.chains against sums over all paths, and step by step."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from flows.kernels.chains import chain_sums


def test_sums_and_slopes_are_those_of_all_paths():
    rng = np.random.default_rng(0)
    steps, pairs = rng.normal(size=(5, 3, 70)), rng.normal(size=(3, 3, 70))
    found, to_steps, to_pairs = chain_sums(steps, pairs)
    paths = list(itertools.product(range(3), repeat=5))
    terms = np.array(
        [
            sum(steps[t, s] for t, s in enumerate(path))
            + sum(pairs[pair] for pair in itertools.pairwise(path))
            for path in paths
        ]
    )
    total = logsumexp(terms, 0)
    assert found == pytest.approx(total, rel=1e-13)
    shares = np.exp(terms - total)
    of_states, of_pairs = np.zeros_like(steps), np.zeros_like(pairs)
    for path, share in zip(paths, shares, strict=True):
        for t, s in enumerate(path):
            of_states[t, s] += share
        for pair in itertools.pairwise(path):
            of_pairs[pair] += share
    assert to_steps == pytest.approx(of_states, abs=1e-13)
    assert to_pairs == pytest.approx(of_pairs, abs=1e-13)


def forward(steps, pairs):
    """The sum step by step, all in logarithms."""
    ahead = steps[0]
    with np.errstate(invalid="ignore"):
        for own in steps[1:]:
            ahead = logsumexp(ahead[:, None] + pairs, 0) + own
    return logsumexp(ahead, 0)


def test_long_chains_with_impossible_links_keep_their_digits():
    rng = np.random.default_rng(1)
    steps, pairs = 3.0 * rng.normal(size=(3000, 4, 3)), rng.normal(size=(4, 4, 3))
    is_link = np.eye(4, dtype=bool) | np.roll(np.eye(4, dtype=bool), 1, 1)
    pairs[~is_link] = -np.inf  # it stays, or goes on in a ring
    found, to_steps, to_pairs = chain_sums(steps, pairs)
    assert found == pytest.approx(forward(steps, pairs), rel=1e-12)
    assert to_steps.sum(1) == pytest.approx(np.ones((3000, 3)), abs=1e-12)
    assert to_pairs.sum((0, 1)) == pytest.approx([2999.0] * 3, rel=1e-12)
    assert not to_pairs[~is_link].any()


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_any_chain_has_its_sum_or_none(spread):
    rng = np.random.default_rng(2)
    known = 0
    for _ in range(200):
        steps, pairs = (
            spread * rng.normal(size=(40, 3, 1)),
            spread * rng.normal(size=(3, 3, 1)),
        )
        steps[rng.random(steps.shape) < 0.03] = -np.inf
        pairs[rng.random(pairs.shape) < 0.3] = -np.inf
        found = chain_sums(steps, pairs)
        if found is not None:
            known += 1
            assert found[0] == pytest.approx(forward(steps, pairs), rel=1e-11)
            assert found[1].sum(1) == pytest.approx(np.ones((40, 1)), abs=1e-11)
    assert known == 0 if spread == 100.0 else known > 10


def test_shares_that_come_back_from_nothing_are_not_lost():
    pairs = np.where(np.eye(2), 0.0, -np.inf)[:, :, None]
    steps = np.zeros((40, 2, 1))
    steps[:20, 0] = 50.0
    steps[20:, 1] = 60.0  # the second state leads in the end, by 1e87
    assert chain_sums(steps, pairs) is None


def test_a_step_that_is_hardly_possible_is_said_to_be_unknown():
    link = -90.0
    pairs = np.where(np.eye(2), 0.0, link)[:, :, None]
    steps = np.zeros((20, 2, 1))
    steps[::2, 0] = steps[1::2, 1] = 200.0
    assert chain_sums(steps, pairs) is None
    assert chain_sums(np.full((3, 2, 1), -np.inf), pairs) is None

"""Tests of flows.inference.smc.result: errors are what repetitions of a run do."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.inference.columns import latent_columns
from flows.inference.particles import Particles
from flows.inference.proposal import PriorProposal
from flows.inference.smc.ancestry import Lineages
from flows.inference.smc.annealing import annealed_smc
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import FreeSpace
from flows.inference.smc.moves import Hamiltonian
from flows.inference.smc.observes import sequential_smc
from flows.inference.smc.result import (
    SmcResult,
    merge_runs,
    run_seed,
    summarize_smc,
)
from flows.inference.smc.sequence import ObserveSequence

from ..targets import NormalChain, NormalProposal, result_of
from .test_observes import DATA, LOG_EVIDENCE, MEAN, MODEL, ChainSequence, data_of


def one_run(num_particles, seed, scheme="systematic"):
    sequence = ChainSequence(MODEL, DATA)
    return result_of(sequential_smc(sequence, num_particles, seed=seed, scheme=scheme))


def scores_of(result, mean=MEAN, log_evidence=LOG_EVIDENCE):
    """Return the gap of the evidence and of every mean, in standard errors."""
    gap = result.particles.mean().numpy() - mean
    return np.array(
        [
            (result.log_evidence - log_evidence) / result.log_evidence_standard_error,
            *gap / result.mean_standard_error().numpy(),
        ]
    )


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_the_standard_error_is_the_spread_over_runs(scheme):
    """300 runs: z-scores have sd 1, within 5 · 0.041."""
    scores = [scores_of(one_run(1000, seed, scheme)) for seed in range(300)]
    assert (np.abs(np.std(scores, axis=0) - 1.0) < 5 * 0.041).all()


def test_errors_that_are_known_are_true_also_over_few_lines():
    """300 runs of 100 particles, about 10 lines each: sd as of Student's law, 1.13."""
    results = [one_run(100, seed) for seed in range(300)]
    known = [scores_of(each) for each in results if each.has_known_errors]
    assert 100 < len(known) < 250
    spread = np.sqrt(np.square(known).mean(0))
    assert (spread < 1.13 + 5 * 0.06).all()
    for each in results:
        if not each.has_known_errors:
            assert math.isnan(each.log_evidence_standard_error)
            assert each.mean_standard_error().isnan().all()


def test_the_spread_of_20_runs_is_their_error():
    """100 times 20 runs of 20 particles, of which hardly a line is left each."""
    scores = []
    for repetition in range(100):
        runs = [one_run(20, 20 * repetition + run) for run in range(20)]
        assert not runs[0].has_known_errors
        merged = merge_runs(runs)
        if merged.has_known_errors:
            scores.append(scores_of(merged))
    assert len(scores) > 75
    spread = np.sqrt(np.square(scores).mean(0))
    # Between 10 and 20 runs count: Student's law has an sd from 1.06 to 1.13.
    assert (np.abs(spread - 1.08) < 5 * 0.055).all()


@pytest.mark.slow
def test_the_standard_error_of_annealing_is_the_spread_over_runs():
    """200 runs: z-scores have sd 1, within 5 · 0.05, and 1.13 over ten lines."""
    model = NormalChain(num_steps=2, noise=0.3)
    data = torch.tensor([1.9, 1.2], dtype=torch.float64)
    mean, _, log_evidence = model.posterior(data)
    space = FreeSpace(model, PriorProposal(model), data)
    config = AnnealingConfig(move=Hamiltonian(4))
    scores = []
    for seed in range(200):
        run = annealed_smc(space, 150, seed=seed, config=config)
        scores.append(scores_of(result_of(run), mean, log_evidence))
    spread = np.nanstd(scores, axis=0)
    assert np.isfinite(scores).mean() > 0.9
    assert (spread > 1 - 5 * 0.05).all()
    assert (spread < 1.13 + 5 * 0.05).all()


def test_one_line_of_descent_never_passes_for_certainty():
    """Seen: after 100 observes from the exact posterior one line, errors of 1e-13."""
    model = NormalChain(num_steps=100)
    data = data_of(model)
    mean, covariance, _ = model.posterior(data)
    exact = NormalProposal.from_moments(mean, covariance)
    sequence = ObserveSequence(model, exact, data)
    for seed in range(5):
        result = result_of(sequential_smc(sequence, 100, seed=seed))
        assert result.ess < 10
        assert math.isnan(result.log_evidence_standard_error)
        assert result.mean_standard_error().isnan().all()
        (caution,) = summarize_smc(result).cautions
        expected = f"all particles descend from {result.num_eves} of the first 100"
        assert caution.what.startswith(expected)
        assert "not known" in caution.meaning
        assert "20 independent runs" in caution.remedy


def by_hand(values, log_weights, eves, num_lines):
    values = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    weights = torch.tensor(log_weights, dtype=torch.float64)
    columns = latent_columns(replace(MODEL, num_steps=1).layout)
    particles = Particles.from_draws(values, weights, columns)
    lineages = Lineages(weights, torch.tensor(eves), num_lines)
    return SmcResult(particles, lineages, (len(weights),))


def test_equal_lines_have_the_error_of_independent_draws():
    values = list(range(12))
    result = by_hand([v for v in values for _ in range(2)], [0.3] * 24, [
        v for v in values for _ in range(2)
    ], 24)  # fmt: skip
    assert result.num_eves == 12
    assert result.ess == pytest.approx(12)
    expected = np.std(values, ddof=1) / math.sqrt(12)
    assert float(result.mean_standard_error()) == pytest.approx(expected)
    squares = result.particles.latents.square()
    expected = np.std(np.square(values), ddof=1) / math.sqrt(12)
    assert float(result.standard_error(squares)) == pytest.approx(expected)
    # Two particles a line: 24 lines began, 12 were left, each twice as heavy.
    assert result.log_evidence_standard_error == pytest.approx(math.sqrt(1 / 23))


def test_particles_of_weight_zero_count_as_nothing_however_far():
    values = [*range(12), math.inf]
    result = by_hand(values, [0.0] * 12 + [-math.inf], list(range(13)), 13)
    expected = np.std(range(12), ddof=1) / math.sqrt(12)
    assert float(result.mean_standard_error()) == pytest.approx(expected)


def test_merged_runs_count_by_their_weights_and_keep_their_lines():
    first = by_hand([1.0, 2.0], [0.0, 1.0], [0, 0], 2)
    second = by_hand([5.0, 7.0], [2.0, -1.0], [1, 0], 2)
    merged = merge_runs([first, second])
    weights = np.exp([0.0, 1.0, 2.0, -1.0])
    assert merged.log_evidence == pytest.approx(math.log(weights.mean()))
    mean = weights @ [1, 2, 5, 7] / weights.sum()
    assert float(merged.particles.mean()) == pytest.approx(mean)
    assert merged.lineages.eves.tolist() == [0, 0, 3, 2]
    assert merged.lineages.num_lines == 4
    assert merged.num_runs == 2


def test_a_run_of_more_particles_counts_by_its_evidence_all_the_same():
    short = by_hand([1.0], [math.log(3.0)], [0], 1)
    long = by_hand([2.0, 3.0], [0.0, 0.0], [0, 1], 2)
    for merged in (merge_runs([short, long]), merge_runs([long, short])):
        assert merged.log_evidence == pytest.approx(math.log((3.0 + 1.0) / 2.0))
        assert float(merged.particles.mean()) == pytest.approx((3 * 1 + 2.5) / 4)
    third = merge_runs([merge_runs([short, long]), short])
    assert third.log_evidence == pytest.approx(math.log((3.0 + 1.0 + 3.0) / 3.0))


def test_the_evidence_of_many_runs_has_the_error_of_their_mean():
    """Each run has one line, which alone would say that nothing is known."""
    log_weights = np.linspace(-0.2, 0.2, 25)
    runs = [by_hand([0.0, 1.0], [w, w], [1, 1], 2) for w in log_weights]
    merged = merge_runs(runs)
    weights = np.exp(log_weights)
    expected = weights.std(ddof=1) / weights.mean() / math.sqrt(25)
    assert merged.log_evidence_standard_error == pytest.approx(expected)


def test_seeds_of_runs_differ_and_the_first_is_that_of_all():
    assert run_seed(7, 0) == 7
    seeds = {run_seed(seed, run) for seed in range(30) for run in range(30)}
    assert len(seeds) == 900


def test_the_summary_is_json_with_the_errors_of_the_run():
    result = one_run(2000, 1)
    summary = summarize_smc(result)
    assert summary.log_evidence == pytest.approx(result.log_evidence)
    assert summary.log_evidence_standard_error == result.log_evidence_standard_error
    assert summary.ess == result.ess <= result.num_eves
    assert summary.latents[3].mean_standard_error == pytest.approx(
        float(result.mean_standard_error()[3])
    )
    plain = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert plain["k_hat"] is None


def test_errors_that_are_not_known_are_null_in_the_summary():
    summary = summarize_smc(one_run(10, 1))
    plain = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert plain["log_evidence_standard_error"] is None
    assert [each["mean_standard_error"] for each in plain["latents"]] == [None] * 10

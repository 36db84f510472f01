"""Tests of heads on programs with many discrete latents."""

import numpy as np
import pytest

import flows
from tests.flows.front.test_wide_programs import noisy_or, noisy_or_exactly

MESH = (6, 5)


def check(posterior, log_evidence, means, least):
    """Evidence and means within five of their errors, an ESS that is no accident."""
    found = posterior.sample(num_particles=20_000, seed=1)
    totals = found.totals
    assert totals.ess_fraction > least
    error = totals.log_evidence_standard_error
    assert abs(totals.log_evidence - log_evidence) < 5 * error
    gaps = (found.mean().numpy() - means) / found.mean_standard_error().numpy()
    assert np.abs(gaps).max() < 5


@pytest.mark.slow
def test_diseases_that_share_all_findings_have_the_posterior_of_enumeration():
    rng = np.random.default_rng(1)
    chances = rng.choice([0.05, 0.1, 0.2], 18).tolist()
    kept = rng.uniform(0.4, 0.95, (25, 18)).round(3)
    ill = np.isin(np.arange(18), [2, 5, 9, 12])
    findings = rng.random(25) > 0.98 * np.prod(np.where(ill, kept, 1), 1)
    model = flows.Model.from_program(noisy_or(chances, kept, findings))
    quick = {"budget_seconds": 0.0, "max_iterations": 1000, "heads": "all"}
    posterior = flows.train(model, kind="auto", config=quick)
    assert len(posterior.artifact.heads) == 18
    check(posterior, *noisy_or_exactly(chances, kept, findings), 0.7)
    answer = flows.infer(model, flow=posterior, method="flow")
    assert (answer.method, answer.is_trusted) == ("flow", True)


def mesh(data):
    """Spins on a grid, each given the ones to its left and above it, seen in noise."""
    rows, columns = MESH
    spins, seen = [], []
    for r in range(rows):
        for c in range(columns):
            near = [f"s{r - 1}x{c}"] * (r > 0) + [f"s{r}x{c - 1}"] * (c > 0)
            field = f"(+ 0 {' '.join(f'(* 0.8 {name})' for name in near)})"
            spins.append(
                f"b{r}x{c} (sample (flip (/ 1 (+ 1 (exp (* -2 {field}))))))"
                f" s{r}x{c} (if b{r}x{c} 1 -1)"
            )
            seen.append(f"(observe (normal s{r}x{c} 1) {data[r, c]:.3f})")
    return f"(let [{' '.join(spins)}] {' '.join(seen)} b0x0)"


@pytest.mark.slow
def test_a_grid_of_spins_has_the_posterior_of_elimination():
    """Thirty spins have heads, though they could be summed out, which is the oracle."""
    noise = np.random.default_rng(3).normal(size=MESH)
    data = noise + np.where(np.arange(MESH[1]) < 3, 1, -1)
    model = flows.Model.from_program(mesh(data))
    exact = flows.infer(model)
    assert exact.method == "exact"
    means = np.array([figures.mean for figures in exact.latents.values()])
    quick = {"budget_seconds": 0.0, "max_iterations": 1200, "heads": "all"}
    posterior = flows.train(model, kind="auto", config=quick)
    check(posterior, exact.log_evidence, means, 0.5)

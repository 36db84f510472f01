"""Tests of flows.front.sequential, against the closed form."""

import re

import pytest
import torch
from scipy import stats

from flows.errors import ArgumentError
from flows.front.sequential import METHODS, smc
from flows.front.source import Untrained
from flows.model.model import Model
from tests.flows.model.programs import graph_of

from ..commands.pair import exact


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("proposal", ["flow", "prior", "mixture"])
def test_every_start_arrives_at_the_posterior(posterior, method, proposal):
    seen = []
    data = {"observe3": 4.0, "observe4": 3.0}
    result, _, _ = smc(
        posterior, data, 500, num_runs=5, method=method, proposal=proposal,
        on_report=lambda run, _: seen.append(run),
    )  # fmt: skip
    _, evidence = exact(4.0, 3.0)
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence - evidence) < 5 * error + 1e-3
    assert sorted(set(seen)) == list(range(5))


def test_an_unknown_method_is_refused(posterior):
    with pytest.raises(
        ArgumentError, match="method: unknown method; expected annealed"
    ):
        smc(posterior, method="magic")


def check_exact(result, *data):
    expected, evidence = exact(*data)
    error = result.log_evidence_standard_error
    assert error < 0.3
    assert abs(result.log_evidence - evidence) < 5 * error
    means, errors = result.particles.mean(), result.mean_standard_error()
    assert ((means - torch.as_tensor(expected)).abs() < 5 * errors + 1e-6).all()


def test_data_that_the_flow_says_nothing_of_are_tempered_from_where_its_draws_lie(
    posterior,
):
    data = {"observe3": 400.0, "observe4": -100.0}
    result, doubts, (note, *_) = smc(posterior, data, 1000)
    assert doubts == ()
    assert "its draws carry too little weight (ESS " in note.what
    check_exact(result, 400.0, -100.0)


def test_a_flow_that_no_number_of_steps_solves_is_no_reason_to_refuse(
    posterior, monkeypatch
):
    """Seen: 64 steps do not solve it exactly enough for gradients."""
    monkeypatch.setattr("flows.proposals.flow._NUM_STEPS", (1,))
    monkeypatch.setattr("flows.proposals.flow._MOST_BIAS", 0.0)
    data = {"observe3": 4.0, "observe4": 3.0}
    result, _, (note,) = smc(posterior, data, 1000)
    assert "no affordable number of steps" in note.what
    check_exact(result, 4.0, 3.0)


def test_draws_of_the_prior_that_never_arrive_are_counted():
    """Seen: draws of negative scales were left out in silence."""
    text = "(let [s (sample (normal 1 1))] (observe (normal 0 s) 1) s)"
    source = Untrained.of(Model.from_graph(graph_of(text)))
    result, _, notes = smc(source, None, 1000, proposal="prior")
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence + 1.968970) < 5 * error
    (said,) = [note.what for note in notes if "without meaning" in note.what]
    bad, num = map(int, re.findall(r"\d+", said))
    assert abs(bad / num - stats.norm(1, 1).cdf(0)) < 0.06

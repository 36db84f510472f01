"""Tests of flows.front.sequential, against the closed form."""

import pytest

from flows.errors import ArgumentError
from flows.front.sequential import METHODS, smc

from ..commands.pair import exact


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("proposal", ["flow", "prior", "mixture"])
def test_every_start_arrives_at_the_posterior(posterior, method, proposal):
    seen = []
    data = {"observe3": 4.0, "observe4": 3.0}
    result, _ = smc(
        posterior, data, 500, num_runs=20, method=method, proposal=proposal,
        on_report=lambda run, _: seen.append(run),
    )  # fmt: skip
    _, evidence = exact(4.0, 3.0)
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence - evidence) < 5 * error + 1e-3
    assert sorted(set(seen)) == list(range(20))


def test_an_unknown_method_is_refused(posterior):
    with pytest.raises(
        ArgumentError, match="method: unknown method; expected annealed"
    ):
        smc(posterior, method="magic")

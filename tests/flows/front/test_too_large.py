"""Tests of flows.front.too_large: what no flow can be fitted to is named."""

import pytest

import flows
from flows.errors import ModelError

QUICK = {"budget_seconds": 0.0, "max_iterations": 5, "certify_draws": 100}
LINE = """(let [b (sample (normal 0 1))]
            (foreach 2 [x [1 {x}] y [0.5 {y}]] (observe (normal (* b x) 1) y)) b)"""


def model(x="2", y="0.7"):
    return flows.Model.from_program(LINE.format(x=x, y=y), "line.daphne")


@pytest.mark.parametrize("kind", ["autoregressive", "cnf"])
def test_draws_beside_a_number_without_a_square_are_named(kind):
    """It ended with what the solver of linear equations says."""
    with pytest.raises(ModelError) as caught:
        flows.train(model(x="1e300"), config=QUICK, kind=kind)
    said = str(caught.value)
    assert said.startswith("line.daphne: numbers too large to compute with; expected ")
    assert "expected numbers below 1.3e+154, whose squares are finite; got" in said
    assert "got observe2 = " in said
    assert said.endswith("e+300")


@pytest.mark.parametrize("kind", ["autoregressive", "structured-gaussian"])
def test_a_number_that_leaves_no_density_to_the_data_is_named(kind):
    """One ended without a trusted flow, the other with a place in its file."""
    with pytest.raises(ModelError, match=r"too large .*; got observe2 = .*e\+300$"):
        flows.train(model(x="1e300"), config=QUICK, kind=kind, amortised=False)


def test_data_without_a_square_are_named_where_a_flow_is_of_these_alone():
    """It ended, trained in vain, with the name of a tensor."""
    with pytest.raises(ModelError, match=r"got observe2 = 1e\+300$"):
        flows.train(model(y="1e300"), config=QUICK, amortised=False)
    assert flows.train(model(y="1e300"), config=QUICK).metrics["best_j"] < 1.0

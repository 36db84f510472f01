"""The check of a document promises what the model accepts."""

import re

import pytest
import torch

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import BridgeError
from daphne_bridge.graph.checking import check_document
from daphne_bridge.graph.document import document_from_json
from flows.errors import ModelError
from flows.model.model import Model

from .programs import PROGRAMS, graph_of

P = """
(let [p (sample (beta 1 1))
      d (sample (dirichlet [1 1 1]))
      x (sample (normal 0 1))]
  {} x)"""
REFUSED = [
    "(observe (uniform-continuous 0 5) 7)",
    "(observe (uniform-continuous 0 5) -1)",
    "(observe (truncated-normal x 1 0 5) 7)",
    "(observe (binomial 10 p) 11)",
    "(observe (binomial 10 p) 1.5)",
    "(observe (bernoulli p) true)",
    "(observe (flip p) 1)",
    "(observe (uniform-discrete 0 3) 3)",
    "(observe (discrete [p 1 1]) 3)",
    "(observe (categorical d) 1)",
    "(observe (mvn [0 x] [[1 0 0] [0 1 0] [0 0 1]]) [1 2])",
    "(observe (mvn [0 x] [[1 0 1] [0 1 1]]) [1 2])",
    "(observe (gamma 1 (exp x)) -1)",
    "(observe (half-normal (exp x)) -1)",
]
ACCEPTED = [
    "(observe (uniform-continuous 0 5) 5)",
    "(observe (uniform-continuous x (+ x 1)) 7)",
    "(observe (binomial 10 p) 10)",
    "(observe (uniform-discrete 0 3) 2)",
    "(observe (discrete d) 2)",
    '(observe (categorical [["a" p] ["b" 1]]) "b")',
    "(observe (mvn [0 x] [[1 0] [0 1]]) [1 2])",
    "(observe (flip p) true)",
]


def outcomes(text):
    """Whether the compiler or the check finds a fault, and whether the model does."""
    try:
        document = document_from_json(compile_program(text, "p.daphne").document)
    except BridgeError:
        return True, True
    report = check_document(document)
    if report.graph is None:
        return True, True
    try:
        Model.from_graph(report.graph)
    except ModelError:
        return bool(report.problems), True
    return bool(report.problems), False


@pytest.mark.parametrize("observe", REFUSED)
def test_what_the_model_refuses_is_refused_before(observe):
    assert outcomes(P.format(observe)) == (True, True)


@pytest.mark.parametrize("observe", ACCEPTED)
def test_what_the_model_accepts_is_accepted_before(observe):
    assert outcomes(P.format(observe)) == (False, False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_are_right_pass_both(name):
    assert outcomes(PROGRAMS[name]) == (False, False)


EDGES = {
    "(poisson 0)": 0,
    "(binomial 0 0.5)": 0,
    "(binomial 3.0 0)": 0,
    "(binomial 3 1)": 3,
    "(geometric 1)": 0,
    "(negative-binomial 2 1)": 0,
    "(bernoulli 1)": 1,
    "(discrete [0 1])": 1,
    "(uniform-discrete 4 5)": 4,
    "(poisson -1)": None,
    "(geometric 0)": None,
    "(negative-binomial 2 0)": None,
    "(negative-binomial 0 0.5)": None,
    "(discrete [0 0])": None,
    "(uniform-discrete 1 1)": None,
    "(binomial 2.5 0.5)": None,
    "(exponential 0)": None,
    "(normal 0 0)": None,
}


@pytest.mark.parametrize("is_computed", [False, True])
@pytest.mark.parametrize("call", EDGES)
def test_an_edge_is_one_value_or_none_whether_a_number_or_computed(call, is_computed):
    """Seen: `(poisson 0)` was refused as a number and the value 0 where computed."""
    value = EDGES[call]
    if is_computed:
        call = re.sub(r"(?<![\w-])-?[\d.]+", r"(+ k \g<0>)", call)
    text = f"(let [k (sample (uniform-discrete 0 2))] (observe {call} {value or 0}) k)"
    if value is None and not is_computed:
        assert outcomes(text) == (True, True)
        return
    assert outcomes(text) == (False, False)
    model = Model.from_graph(graph_of(text))
    row = torch.zeros(1, dtype=torch.float64)
    if value is None:
        assert not bool(model.has_meaning(row, model.observation()))
    else:
        assert float(model.log_likelihood(row, model.observation())) == 0.0

"""Tests of flows.model.observed_row."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from daphne_bridge.cli import main as bridge
from daphne_bridge.errors import BridgeError
from flows.errors import ModelError
from flows.model.model import Model

from .programs import graph_of_links, model_of


def test_the_observation_is_the_document_s_data_or_what_replaces_it():
    _, model = model_of("colours")
    assert model.observation().tolist() == [21.0, 1.0]
    names = model.graph.observed
    assert model.observation({names[1]: "a"}).tolist() == [21.0, 0.0]
    with pytest.raises(ModelError, match='one of "a", "b"; got "c"'):
        model.observation({names[1]: "c"})
    with pytest.raises(ModelError, match="c is a latent"):
        model.observation({"c": 1})
    refused = "no node is called nobody; expected an observed node: observe3, observe4"
    with pytest.raises(ModelError, match=refused):
        model.observation({"nobody": 1})


@pytest.mark.parametrize(
    ("term", "value", "expected"),
    [
        (["gamma", 2, 1], -1.0, "outside the support of gamma; expected a positive"),
        (["beta", 2, 1], 1.5, "between 0 and 1; got 1.5"),
        (["exponential", 1], -0.1, "at least 0"),
        (["uniform-continuous", 0, 2], 3, "from 0.0 to 2.0; got 3"),
        (["flip", 0.5], 1, "no boolean; expected true or false; got 1"),
        (["bernoulli", 0.5], True, "wrong type.*got true"),
        (["bernoulli", 0.5], 2, "0 or 1; got 2"),
        (["binomial", 3, 0.5], 4, "at most 3; got 4"),
        (["poisson", 2], 1.5, "whole number"),
        (["discrete", ["vector", 1, 1]], 2, "from 0 to 1; got 2"),
        (["uniform-discrete", 0, 3], 3, "from 0 to 3, exclusive"),
        (["dirichlet", ["vector", 1, 1]], ["vector", 0.5, 0.6], "sum to 1"),
        (["dirichlet", ["vector", 1, 1]], ["vector", 1], "wrong shape.*vector of 2"),
        (["normal", 0, 1], '"text"', "wrong type"),
        (["normal", 0, 1], ["vector", 1, 2], "wrong type"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_path(term, value, expected):
    data = value[1:] if isinstance(value, list) else value
    graph = graph_of_links(
        {
            "sample0": ["sample*", ["normal", 0, 1]],
            "observe1": ["observe*", term, value],
        },
        {"observe1": data},
    )
    with pytest.raises(ModelError, match=expected) as caught:
        Model.from_graph(graph)
    assert "$[1].Y.observe1" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        [2, 0.5],
        (np.float32(2), np.array(0.5)),
        (torch.tensor(2.0), torch.tensor(0.5, dtype=torch.float32)),
        (np.int64(2), torch.tensor(0.5, requires_grad=True)),
    ],
)
def test_numbers_of_numpy_and_torch_are_observed_as_those_of_python(values):
    links = {
        name: ["observe*", ["normal", 0, 1], 0.0] for name in ("observe0", "observe1")
    }
    graph = graph_of_links(links, dict.fromkeys(links, 0.0))
    model = Model.from_graph(graph)
    observed = model.observation(dict(zip(links, values, strict=True)))
    assert observed.tolist() == [2.0, 0.5]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_arrays_are_observed_as_vectors_and_matrices(kind):
    vector, matrix = kind([0.25, 0.75]), kind([[2.0, 0.5], [0.5, 1.0]])
    identity = ["vector", ["vector", 1, 0], ["vector", 0, 1]]
    links = {
        "observe0": ["observe*", ["dirichlet", ["vector", 1, 1]], ["vector", 0.5, 0.5]],
        "observe1": ["observe*", ["wishart", 3, identity], identity],
        "observe2": ["observe*", ["flip", 0.5], True],
    }
    data = {"observe0": [0.5, 0.5], "observe1": [[1, 0], [0, 1]], "observe2": True}
    model = Model.from_graph(graph_of_links(links, data))
    values = {"observe0": vector, "observe1": matrix, "observe2": np.bool_(False)}
    wanted = [0.25, 0.75, 2.0, 0.5, 0.5, 1.0, 0.0]
    assert model.observation(values).tolist() == wanted
    with pytest.raises(ModelError, match="wrong shape"):
        model.observation({"observe0": kind([0.2, 0.3, 0.5])})


PAIR = """(let [m (sample (normal 0 1))
                y (observe (mvn [m m] [[1 0] [0 1]]) [0.1 0.2])] m)"""


def test_entries_of_a_vector_are_one_value():
    model = Model.from_program(PAIR)
    assert model.observation({"y[1]": 3.0, "y[0]": 2.0}).tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"y[0]": 2.0}, r"y\[1\] of y left out; expected all entries"),
        ({"y[0]": 2.0, "y": [1.0, 2.0]}, r"y and y\[0\] are one node"),
        ({"y[0]": 2.0, "y[1]": "b"}, "wrong type"),
        ({"y[2]": 2.0}, "no node is called"),
    ],
)
def test_entries_that_make_no_value_are_refused(values, said):
    with pytest.raises(ModelError, match=said):
        Model.from_program(PAIR).observation(values)


WHOLE = "1" + "0" * 400
"""A whole number beyond the largest double."""


@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_beyond_doubles_are_not_finite(sign):
    model = Model.from_program("(observe (normal (sample (normal 0 1)) 1) 1)")
    with pytest.raises(ModelError, match="an observation of normal is not finite"):
        model.observation({"observe1": sign * 10**400})


@pytest.mark.parametrize(
    "program",
    [
        f"(observe (normal (sample (normal 0 1)) 1) {WHOLE})",
        f"(observe (poisson (sample (gamma 1 1))) {WHOLE})",
        f"(observe (normal (sample (normal 0 {WHOLE})) 1) 1)",
        f"(observe (normal (sample (normal {WHOLE} 1)) 1) 1)",
    ],
)
def test_programs_with_whole_numbers_beyond_doubles_are_refused(program, tmp_path):
    with pytest.raises(BridgeError, match=r"expected a .*number.*; got"):
        Model.from_program(program)
    (tmp_path / "p.daphne").write_text(program)
    call = CliRunner().invoke(bridge, ["check", str(tmp_path / "p.daphne")])
    assert call.exit_code == 2
    assert "expected a" in call.output

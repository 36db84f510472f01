"""Tests of flows.model.lowering."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import flows
from flows.errors import ModelError
from flows.model.model import Model

from .programs import graph_of_links


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (["normal", ["vector", 1, 2], 1], "no number.*got a vector of 2"),
        (["mvn", 0, 1], "no vector.*got the number 0"),
        (["mvn", ["vector", 0, 1], ["vector", ["vector", 1, 0]]], "not square"),
        (["dirichlet", 3], "no vector"),
        (["categorical", ["vector", 1, 2]], "no list of pairs"),
        (["normal", True, 1], "no number.*got true"),
        (["normal", ["first", ["vector"]], 1], "no number.*got nil"),
        (
            [
                "mvn",
                ["vector", 0, 1, 2],
                ["vector", ["vector", 1, 0], ["vector", 0, 1]],
            ],
            "differ in size",
        ),
        (["normal", ["mat-mul", ["vector", 1], ["vector", 1, 2]], 1], "no value"),
    ],
)
def test_a_parameter_of_the_wrong_type_or_shape_is_refused(term, expected):
    with pytest.raises(ModelError, match=expected):
        Model.from_graph(graph_of_links({"sample0": ["sample*", term]}))


def test_a_branch_that_is_never_taken_leaves_numbers_that_are_known():
    never = ["if", ["and", False, "sample0"], 2, 0]
    model = Model.from_graph(
        graph_of_links(
            {
                "sample0": ["sample*", ["flip", 0.5]],
                "sample1": ["sample*", ["normal", ["*", never, 1.5], 1]],
            }
        )
    )
    row = torch.tensor([1.0, 0.3], dtype=torch.float64)
    expected = math.log(0.5) + stats.norm.logpdf(0.3)
    assert float(model.log_joint(row, model.observation())) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("link", "data", "expected"),
    [
        (
            ["sample*", ["if", "a", ["normal", 0, 1], ["poisson", 3]]],
            {},
            "draw in each",
        ),
        (
            ["observe*", ["if", "a", ["normal", 0, 1], ["dirac", "b"]], 2],
            {"c": 2},
            "mass of dirac beside.*numbers; got .dirac b",
        ),
    ],
)
def test_a_branch_that_counts_beside_one_that_measures_is_refused(link, data, expected):
    flips = {name: ["sample*", ["flip", 0.5]] for name in "ab"}
    with pytest.raises(ModelError, match=expected):
        Model.from_graph(graph_of_links({**flips, "c": link}, data))


def test_a_document_may_choose_between_a_value_and_counts():
    model = Model.from_graph(
        graph_of_links(
            {
                "a": ["sample*", ["flip", 0.25]],
                "b": ["sample*", ["if", "a", ["dirac", 2], ["poisson", 3]]],
                "c": ["observe*", ["normal", "b", 1], 1],
            },
            {"c": 1},
        )
    )
    counts = np.arange(60)
    mass = 0.25 * (counts == 2) + 0.75 * stats.poisson.pmf(counts, 3)
    expected = math.log(mass @ stats.norm.pdf(1, counts))
    assert flows.infer(model).log_evidence == pytest.approx(expected)

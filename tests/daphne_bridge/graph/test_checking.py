"""Tests of daphne_bridge.graph.checking."""

import pytest

from daphne_bridge.graph.checking import check_document

from ..documents import CIRCUIT, CIRCUIT_DATA, make_document


def test_a_good_document_has_no_problems():
    report = check_document(make_document(CIRCUIT, CIRCUIT_DATA))
    assert report.graph is not None
    assert report.problems == ()


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        (["normal", 0, -1], "normal's standard deviation; expected a positive number"),
        (["normal", 0, ["pow", 10, 400]], "expected a positive number; got inf"),
        (["gamma", 0, 1], "gamma's shape; expected a positive number; got 0"),
        (["flip", 1.5], "flip's probability; expected a number from 0 to 1; got 1.5"),
        (["uniform-continuous", 2, 1], "uniform-continuous is empty"),
        (["discrete", 3], "discrete's weights; expected a vector; got 3"),
        (["discrete", ["vector", 1, -1]], "numbers that are not negative"),
        (["dirichlet", ["vector", 1, 0]], "dirichlet's concentrations"),
        (["normal", "v", 1], None),
        (["normal", ["+", ["normal", 0, 1], 1], 1], "a distribution where +"),
        (["normal", ["+", ["vector", 1, 2], 1], 1], "+ needs numbers"),
        (["normal", ["+", "b", 1], 1], "got b, true or false"),
    ],
)
def test_parameters_and_types_are_checked(distribution, said):
    links = {
        "v": ["sample*", ["normal", 0, 1]],
        "b": ["sample*", ["flip", 0.5]],
        "sample1": ["sample*", distribution],
    }
    report = check_document(make_document(links))
    text = "\n".join(map(str, report.problems))
    if said is None:
        assert text == ""
    else:
        assert said in text
        assert "$[1].P.sample1" in text


@pytest.mark.parametrize(
    ("distribution", "value", "said"),
    [
        (["gamma", 1, 1], -1, "expected a positive number"),
        (["beta", 1, 1], 1.5, "expected a number between 0 and 1"),
        (["poisson", 3], 2.5, "expected a whole number"),
        (["bernoulli", 0.5], 2, "expected 0 or 1"),
        (["normal", 0, 1], '"a"', "expected a number"),
        (["flip", 0.5], 0.3, "expected true or false"),
    ],
)
def test_observations_outside_the_support_are_refused(distribution, value, said):
    links = {"observe1": ["observe*", distribution, value]}
    report = check_document(make_document(links, {"observe1": value}))
    assert said in "\n".join(map(str, report.problems))

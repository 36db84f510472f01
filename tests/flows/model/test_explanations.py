"""Tests of flows.model.explanations."""

import pytest
import torch

from flows.errors import ModelError
from flows.model.model import Model

from .programs import generator_of, graph_of, graph_of_links


def test_a_negative_scale_names_node_value_and_link_function():
    graph = graph_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal 2 (- a 0.5)))]
          (observe (normal b 1) 0.1)
          b)"""
    )
    model = Model.from_graph(graph)
    latents = torch.tensor([[1.0, 0.0], [0.25, 0.0]], dtype=torch.float64)
    with pytest.raises(ModelError) as caught:
        model.log_joint(latents, model.observation())
    text = str(caught.value)
    assert "$[1].P.sample" in text
    assert "standard deviation of normal is not valid at draw 1 of" in text
    assert "(b); expected a positive number" in text
    assert "got -0.25 from (normal 2 (- a 0.5)) with a = 0.25" in text
    with pytest.raises(ModelError, match=r"got -.* from \(normal 2 \(- a 0.5\)\)"):
        model.sample(100, generator=generator_of())


def test_bad_parameters_that_are_known_are_refused_when_the_model_is_built():
    graph = graph_of_links(
        {
            "sample0": ["sample*", ["normal", 0, -1]],
            "sample1": ["sample*", ["gamma", 2, 0]],
            "sample2": ["sample*", ["discrete", ["vector", 0, 0]]],
            "sample3": ["sample*", ["normal", 0, 1]],
        }
    )
    with pytest.raises(ModelError) as caught:
        Model.from_graph(graph)
    assert [problem.where for problem in caught.value.problems] == [
        f"test.json: $[1].P.sample{number}" for number in (0, 1, 2)
    ]


def test_words_that_are_ordered_as_numbers_are_refused_with_their_expression():
    graph = graph_of(
        """
        (let [c (sample (categorical {"a" 0.3 "b" 0.7}))]
          (observe (normal (if (> c 1) 1.0 0.0) 1.0) 0.5)
          c)"""
    )
    with pytest.raises(ModelError, match=r"a number is needed, not the string 'a'"):
        Model.from_graph(graph)


def test_known_parameters_that_are_wrong_together_are_refused():
    # Seen: "the value of x at row 0 is outside the support", once it was drawn.
    with pytest.raises(ModelError) as caught:
        Model.from_graph(graph_of("(let [x (sample (wishart 1 [[1 0] [0 1]]))] x)"))
    assert str(caught.value).endswith(
        "the degrees of freedom and scale matrix of wishart are not valid; expected "
        "more degrees of freedom than rows, less one; got 1 and [[1 0] [0 1]]"
    )

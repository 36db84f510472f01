"""Tests of flows.model.density."""

import math

import pytest
import torch

from flows.model.density import Model

from .interpreter import log_terms, values_of_row
from .programs import PROGRAMS, graph_of


def _model(name):
    graph = graph_of(PROGRAMS[name])
    return graph, Model.from_graph(graph)


def _draws(model, num=6, seed=3):
    return model.sample(num, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PROGRAMS)
def test_log_joint_is_that_of_the_node_by_node_interpreter(name):
    graph, model = _model(name)
    draws = _draws(model)
    given = model.observation()
    for observed in (draws.observed, given.expand(6, -1)):
        found = model.log_joint(draws.latents, observed)
        for row in range(6):
            values = values_of_row(
                graph, model.layout, draws.latents[row], observed[row]
            )
            expected = math.fsum(log_terms(graph, values).values())
            assert float(found[row]) == pytest.approx(expected, rel=1e-9, abs=1e-9)

"""Tests of flows.model.schedule."""

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.model.model import Model

from ...bench.bench_density import convolution, regression, state_space
from .naive import naive_log_joint
from .programs import graph_of


def _graph(term):
    """Return the graph of one latent and one observe with the given mean."""
    links = {
        "sample0": ["sample*", ["normal", 0, 1]],
        "observe1": ["observe*", ["normal", term, 1], 0.5],
    }
    parts = {"V": list(links), "A": {}, "P": links, "Y": {"observe1": 0.5}}
    return Graph.from_document(document_from_json([{}, parts, None]))


def _compared(graph, rows=5):
    model = Model.from_graph(graph)
    draws = model.sample(rows, generator=torch.Generator().manual_seed(0))
    latents = draws.latents.clone().requires_grad_()
    found = model.log_joint(latents, draws.observed)
    expected = naive_log_joint(graph, model.layout, latents, draws.observed)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
    left = torch.autograd.grad(found.sum(), latents)[0]
    right = torch.autograd.grad(expected.sum(), latents)[0]
    assert torch.allclose(left, right, rtol=1e-8, atol=1e-8)
    return model


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(convolution(), id="convolution"),
        pytest.param(convolution(21, 5), id="large convolution"),
        pytest.param(state_space(150), id="state space"),
        pytest.param(regression(400), id="regression"),
    ],
)
@pytest.mark.parametrize("rows", [3, 300])
def test_values_and_gradients_are_those_of_the_interpreter(graph, rows):
    _compared(graph, rows)


def test_the_number_of_groups_does_not_depend_on_the_number_of_nodes():
    for build, sizes in (
        (state_space, (20, 200)),
        (regression, (20, 200)),
        (convolution, (9, 21)),
    ):
        counts = {
            Model.from_graph(build(size)).densities.joint.num_groups for size in sizes
        }
        assert len(counts) == 1
        assert counts.pop() <= 3


def test_sampling_takes_two_groups_per_step_and_one_for_all_data():
    short, long = (
        Model.from_graph(state_space(n)).draw_schedules.everything.num_groups
        for n in (10, 20)
    )
    assert long - short == 20
    assert short <= 22


def test_a_long_fold_of_sums_is_one_group():
    term = "sample0"
    for number in range(2000):
        term = ["+", term, ["*", "sample0", number / 2000]]
    model = _compared(_graph(term))
    assert model.densities.joint.num_groups <= 2


def test_a_deep_chain_that_is_not_linear_works():
    term = "sample0"
    for _ in range(1500):
        term = ["tanh", term]
    model = _compared(_graph(term))
    assert model.densities.joint.num_groups >= 1500


def test_running_sums_stay_shallow():
    names = [f"sample{i}" for i in range(540)]
    links = {name: ["sample*", ["normal", 0, 1]] for name in names}
    data, total = {}, names[0]
    for number, name in enumerate(names[1:], start=540):
        total = ["+", total, name]
        links[f"observe{number}"] = ["observe*", ["normal", ["tanh", total], 1], 0.1]
        data[f"observe{number}"] = 0.1
    parts = {"V": list(links), "A": {}, "P": links, "Y": data}
    graph = Graph.from_document(document_from_json([{}, parts, None]))
    model = _compared(graph)
    assert model.densities.joint.num_groups <= 6


def test_infinity_in_one_mean_does_not_reach_another():
    graph = graph_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal 0 1))
              q (/ 1 a)]
          (observe (normal (+ q b) 1) 0.3)
          (observe (normal (+ b (* 2 a)) 1) 0.3)
          b)"""
    )
    model = Model.from_graph(graph)
    latents = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    terms = model.log_likelihood_terms(latents, model.observation())
    assert terms[0, 0] == -torch.inf
    assert torch.isfinite(terms[0, 1])


def test_memory_is_linear_in_the_number_of_nodes():
    model = Model.from_graph(state_space(400))
    half = Model.from_graph(state_space(200))
    sizes = []
    for entry in (half, model):
        draws = entry.sample(64, generator=torch.Generator().manual_seed(0))
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.untyped_storage().nbytes()) or t,
            lambda t: t,
        ):
            latents = draws.latents.clone().requires_grad_()
            entry.log_joint(latents, draws.observed).sum()
        sizes.append(sum(kept))
    assert sizes[1] <= 2.2 * sizes[0]

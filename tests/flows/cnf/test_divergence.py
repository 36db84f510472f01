"""Tests of flows.cnf.divergence."""

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.divergence import divergence_per_node, slopes_of
from flows.cnf.vector_field import FieldConfig, evaluate_field
from flows.flow.building import build_structure
from flows.model.model import Model

from .random_structures import CASES, case, random_field


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CASES)
def test_exact_divergence_equals_the_trace_of_autograd_node_by_node(name, seed):
    check(*case(name, seed), seed)


def random_inverse(seed):
    """The inverse of a random graph of 6 latents and 3 data, with its layout."""
    generator = torch.Generator().manual_seed(seed)
    names = [*(f"sample{i}" for i in range(6)), *(f"observe{i}" for i in range(6, 9))]
    links = {}
    for place, name in enumerate(names):
        before = names[: min(place, 6)]
        reads = [n for n in before if torch.rand((), generator=generator) < 0.4]
        mean = ["+", 0.5, *reads]
        kind = "sample*" if place < 6 else "observe*"
        links[name] = [kind, ["normal", mean, 1.0], *([0.1] if place >= 6 else [])]
    parts = {"V": names, "A": {}, "P": links, "Y": dict.fromkeys(names[6:], 0.1)}
    graph = Graph.from_document(document_from_json([{}, parts, None], "random"))
    return invert(graph), Model.from_graph(graph).layout


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("nuisances", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_on_random_inverses(seed, nuisances, residual):
    structure = build_structure(*random_inverse(seed), nuisances)
    config = FieldConfig(hidden=4, residual=residual, last_layer_scale=1.0)
    check(structure, random_field(structure, seed, config), seed)


def check(structure, field, seed):
    """Compare node by node, in float64, within 1e-10."""
    dense = field.dense()
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(3, structure.state_dim, generator=generator).double()
    observed = torch.randn(3, structure.observed_dim, generator=generator).double()
    times = torch.rand(3, generator=generator).double()
    sign = torch.tensor([1.0, -1.0, 1.0]).double()
    term = dense.observed_term(observed)
    gates = dense.gates(times, sign)
    _, values = evaluate_field(dense, states, term, gates)
    got = divergence_per_node(dense, slopes_of(values, gates), gates)
    node = torch.tensor(structure.state_node)
    for row in range(3):
        gates = dense.gates(times[row], sign[row])

        def velocity(state, row=row, gates=gates):
            return evaluate_field(dense, state, term[row], gates)[0]

        jacobian = torch.autograd.functional.jacobian(velocity, states[row])
        traces = torch.zeros(len(structure.blocks)).double()
        traces.index_add_(0, node, torch.diagonal(jacobian))
        torch.testing.assert_close(got[row], traces, atol=1e-10, rtol=0)

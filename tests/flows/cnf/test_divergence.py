"""Tests of flows.cnf.divergence."""

import pytest
import torch

from flows.cnf.divergence import divergence_per_node
from flows.cnf.vector_field import evaluate_field

from .random_structures import CASES, case


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CASES)
def test_exact_divergence_equals_the_trace_of_autograd_node_by_node(name, seed):
    structure, field = case(name, seed)
    dense = field.dense()
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(3, structure.state_dim, generator=generator).double()
    observed = torch.randn(3, 3, generator=generator).double()
    times = torch.rand(3, generator=generator).double()
    sign = torch.tensor([1.0, -1.0, 1.0]).double()
    term = dense.observed_term(observed)
    gates = dense.gates(times, sign)
    _, values = evaluate_field(dense, states, term, gates)
    got = divergence_per_node(dense, values, gates)
    node = torch.tensor(structure.state_node)
    for row in range(3):
        gates = dense.gates(times[row], sign[row])

        def velocity(state, row=row, gates=gates):
            return evaluate_field(dense, state, term[row], gates)[0]

        jacobian = torch.autograd.functional.jacobian(velocity, states[row])
        traces = torch.zeros(len(structure.blocks)).double()
        traces.index_add_(0, node, torch.diagonal(jacobian))
        torch.testing.assert_close(got[row], traces, atol=1e-10, rtol=0)

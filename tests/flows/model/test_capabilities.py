"""Tests of flows.model.capabilities."""

from flows.model.capabilities import capabilities

from .programs import PROGRAMS, graph_of


def test_latents_and_observed_nodes_are_told_apart():
    found = capabilities(graph_of(PROGRAMS["mixture"]))
    assert len(found.discrete_latents) == 3
    circuit = capabilities(graph_of(PROGRAMS["arithmetic_circuit"]))
    assert circuit.continuous_latents == ("z0", "z1", "z2", "z3", "z4", "z5")
    assert not circuit.discrete_latents
    assert len(circuit.observed) == 2

"""Tests of flows.model.capabilities."""

from flows.model.capabilities import capabilities

from .programs import PROGRAMS, graph_of, graph_of_links


def test_capabilities_name_the_discrete_latents():
    found = capabilities(graph_of(PROGRAMS["mixture"]))
    assert len(found.discrete_latents) == 3
    assert not found.has_free_coordinates
    assert "are discrete" in found.sentence
    assert "k" in found.sentence
    circuit = capabilities(graph_of(PROGRAMS["arithmetic_circuit"]))
    assert circuit.has_free_coordinates
    assert circuit.continuous_latents == ("z0", "z1", "z2", "z3", "z4", "z5")
    empty = capabilities(graph_of_links({"sample0": ["sample*", ["normal", 0, 1]]}))
    assert "observes nothing" in empty.sentence
    assert "no latents" in capabilities(graph_of_links({})).sentence

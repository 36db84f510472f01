"""Tests of flows.cnf.kind."""

import pytest

from flows.cnf.flow import ConditionalFlow
from flows.cnf.kind import field_lengths

from .random_structures import CASES, random_structure


@pytest.mark.parametrize("name", sorted(CASES))
def test_lengths_are_those_of_the_tensors_that_are_made(name):
    nuisances, vectors, config = CASES[name]
    structure = random_structure(3, nuisances=nuisances, vectors=vectors)
    made = ConditionalFlow(structure, config, 0)
    found = {n: t.numel() for n, t in made.state_dict().items() if "field" in n}
    assert field_lengths(structure, config) == found
    assert sum(found.values()) == sum(p.numel() for p in made.parameters())

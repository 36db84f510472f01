"""Tests of flows.flow.potentials: structures that cannot be eliminated are refused."""

import pytest

from flows.errors import ArgumentError
from flows.flow.potentials import Potential
from flows.flow.structure import StateBlock, Structure

PRIORS = tuple(Potential((c,), (), (0.0, 1.0), 1, "") for c in range(3))
JOINED = Potential((2, 0, 1), (0,), (0.0, 0, 1, 0, 1, 0, 1, 0), 0, "link")


def structure(potentials, *, parents=((), (0,), (0, 1)), columns=((0,), (0,), (0,))):
    blocks = tuple(
        StateBlock(f"z{i}", (i,), 0, above, seen)
        for i, (above, seen) in enumerate(zip(parents, columns, strict=True))
    )
    return Structure(blocks, 1, potentials=potentials)


def test_structure_that_reads_what_elimination_joins_is_allowed():
    assert structure((*PRIORS, JOINED)).potentials[-1].num_predictors == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": ((), (), (0, 1))}, "latent z1: what it reads"),
        ({"columns": ((), (0,), (0,))}, "latent z0: what it reads"),
    ],
)
def test_edge_that_elimination_needs_and_the_structure_lacks_is_named(change, message):
    with pytest.raises(ArgumentError, match=message):
        structure((*PRIORS, JOINED), **change)


@pytest.mark.parametrize(
    ("potentials", "message"),
    [
        (PRIORS[1:], "none of column 0"),
        ((*PRIORS, Potential((3,), (), (0.0, 1.0), 0, "")), "columns"),
        ((*PRIORS, Potential((0,), (1,), (0.0, 1.0), 0, "")), "columns"),
        ((*PRIORS, Potential((0, 1), (), (0.0, 1.0), 0, "")), "predictors"),
        ((*PRIORS, Potential((0,), (), (0.0, 1.0), 2, "")), "predictors"),
    ],
)
def test_potential_that_is_none_is_refused(potentials, message):
    with pytest.raises(ArgumentError, match=message):
        structure(potentials)

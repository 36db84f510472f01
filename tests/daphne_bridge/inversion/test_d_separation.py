"""Tests of daphne_bridge.inversion.d_separation, against tables of probabilities."""

import random
from fractions import Fraction
from itertools import product

import pytest

from daphne_bridge.errors import InversionError
from daphne_bridge.inversion.d_separation import FalseClaim, judge

from ..dags import Example, all_dags, arithmetic_circuit

CIRCUIT = arithmetic_circuit()
HAND_MADE = {
    "z5": ["x0", "x1"],
    "z3": ["z5", "x0"],
    "z4": ["z5", "z3"],
    "z1": ["z3"],
    "z0": ["z3", "z1"],
    "z2": ["z1", "z0"],
}


def test_the_inverse_of_the_circuit_made_by_hand_is_good() -> None:
    found = judge(CIRCUIT.parents, CIRCUIT.observed, list(HAND_MADE), HAND_MADE)
    assert found.is_faithful
    assert found.is_minimal


@pytest.mark.parametrize(
    ("parent", "latent"), [(p, z) for z, above in HAND_MADE.items() for p in above]
)
def test_an_inverse_without_one_of_its_edges_is_not_faithful(parent, latent) -> None:
    fewer = {**HAND_MADE, latent: [p for p in HAND_MADE[latent] if p != parent]}
    found = judge(CIRCUIT.parents, CIRCUIT.observed, list(fewer), fewer)
    (claim,) = found.false_claims
    assert claim.latent == latent
    assert parent in claim.others


def test_an_edge_too_many_is_named() -> None:
    more = {**HAND_MADE, "z4": ["z5", "z3", "x1"]}
    found = judge(CIRCUIT.parents, CIRCUIT.observed, list(more), more)
    assert found.is_faithful
    assert found.removable == (("x1", "z4"),)


def test_the_graph_with_its_arrows_turned_is_not_faithful() -> None:
    """Two causes of an observed effect depend on each other once it is seen."""
    found = judge(
        {"a": [], "b": [], "x": ["a", "b"]}, ["x"], ["a", "b"], {"a": ["x"], "b": ["x"]}
    )
    assert found.false_claims == (FalseClaim("b", ("a",)),)


@pytest.mark.parametrize(
    ("latents", "parents", "message"),
    [
        (["a"], {"a": []}, "its latents are not those of the graph, each once"),
        (["a", "b", "b"], {"a": [], "b": []}, "each once; expected a, b; got a, b, b"),
        (["a", "b"], {"a": ["b"], "b": []}, "a: a parent that is not known"),
        (["a", "b"], {"a": ["q"], "b": []}, "or an observed node; got q"),
    ],
)
def test_what_is_no_inverse_is_refused(latents, parents, message) -> None:
    graph = {"a": [], "b": ["a"], "x": ["b"]}
    with pytest.raises(InversionError, match=message):
        judge(graph, ["x"], latents, parents)


def _joint(example: Example, seed: int) -> dict[tuple[int, ...], Fraction]:
    """Return exact probabilities of binary nodes with random tables."""
    rng = random.Random(seed)
    place = {name: i for i, name in enumerate(example.names)}
    tables = {
        name: {
            above: Fraction(rng.randint(1, 96), 97)
            for above in product([0, 1], repeat=len(example.parents[name]))
        }
        for name in example.names
    }
    joint = {}
    for values in product([0, 1], repeat=len(example.names)):
        total = Fraction(1)
        for name in example.names:
            one = tables[name][tuple(values[place[p]] for p in example.parents[name])]
            total *= one if values[place[name]] else 1 - one
        joint[values] = total
    return joint


def _is_independent(joint, one: int, others: set[int], given: set[int]) -> bool:
    """Return whether p(one, others | given) is a product, exactly."""

    def marginal(kept: set[int]) -> dict[tuple[int, ...], Fraction]:
        sums: dict[tuple[int, ...], Fraction] = {}
        for values, mass in joint.items():
            key = tuple(values[i] for i in sorted(kept))
            sums[key] = sums.get(key, Fraction(0)) + mass
        return sums

    everything = {one} | others | given
    whole, left = marginal(everything), marginal({one} | given)
    right, bottom = marginal(others | given), marginal(given)
    for values in product([0, 1], repeat=len(everything)):
        value = dict(zip(sorted(everything), values, strict=True))

        def pick(kept: set[int], value: dict[int, int] = value) -> tuple[int, ...]:
            return tuple(value[i] for i in sorted(kept))

        if (
            whole[pick(everything)] * bottom[pick(given)]
            != left[pick({one} | given)] * right[pick(others | given)]
        ):
            return False
    return True


def test_a_claim_is_false_exactly_if_random_tables_break_it() -> None:
    """Every graph of three nodes, the last latent given every set of parents.

    Random rational tables break every independence that d-separation does not grant,
    but for a set of tables of measure zero.
    """
    for seed, example in enumerate(all_dags(3)):
        if len(example.latents) != 3:
            continue
        joint = _joint(example, seed)
        for kept in product([False, True], repeat=2):
            given = [n for n, keep in zip(["n0", "n1"], kept, strict=True) if keep]
            parents = {"n0": [], "n1": ["n0"], "n2": given}
            found = judge(example.parents, [], ["n0", "n1", "n2"], parents)
            claim_holds = "n2" not in {claim.latent for claim in found.false_claims}
            others = {0, 1} - {int(name[1]) for name in given}
            assert claim_holds == _is_independent(joint, 2, others, {0, 1} - others)

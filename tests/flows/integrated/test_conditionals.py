"""Tests of flows.integrated.conditionals: which latents need no network."""

import pytest

from flows.errors import ArgumentError
from flows.integrated.conditionals import (
    conditionals_of,
    latents_to_integrate,
    linked_ones,
)
from flows.model.model import Model
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR


def _found(text):
    model = Model.from_program(text)
    return latents_to_integrate(model.graph, model.layout), model


def test_circuit_keeps_the_latents_that_join_others():
    names, model = _found(CIRCUIT)
    assert names == ("sample0", "sample4", "sample2")
    factors = {
        each.name: each.factors
        for each in conditionals_of(model.graph, model.layout, names)
    }
    assert factors == {
        "sample0": ("sample0", "sample3"),  # z2 is gone: nothing reads it
        "sample4": ("sample4", "sample5"),
        "sample2": ("sample2",),
    }


def test_what_no_other_reads_comes_last_parents_first():
    names, model = _found(GROUPS)
    assert names[-2:] == ("sample4", "sample5")
    last = conditionals_of(model.graph, model.layout, names)[-1]
    assert last.is_prior
    assert last.latents == ("sample1", "sample4")


@pytest.mark.parametrize("text", [CIRCUIT, GROUPS, LINEAR])
def test_no_integral_reads_another_latent_that_is_integrated_out(text):
    names, model = _found(text)
    found = conditionals_of(model.graph, model.layout, names)
    integrals = [each for each in found if not each.is_prior]
    assert integrals
    for each in integrals:
        assert set(names).isdisjoint(each.latents)


def test_a_latent_that_bounds_another_is_kept():
    names, _ = _found("""
        (let [top (sample (uniform-continuous 1 2))
              under (sample (uniform-continuous 0 top))
              other (sample (normal under 1))]
          (observe (normal other 1) 0.3)
          top)""")
    assert "sample0" not in names


def test_what_is_no_latent_is_refused():
    model = Model.from_program(CIRCUIT)
    with pytest.raises(ArgumentError, match="integrated latents: not all of these"):
        conditionals_of(model.graph, model.layout, ("sample9",))


def test_latents_in_the_markov_blanket_of_each_other_are_linked():
    model = Model.from_program(CIRCUIT)
    names = ("sample0", "sample3", "sample4", "sample2")
    found = conditionals_of(model.graph, model.layout, names)
    assert {c.name for c in linked_ones(found)} == {"sample0", "sample3", "sample4"}
    assert linked_ones(conditionals_of(model.graph, model.layout, names[::3])) == ()


def test_one_latent_is_kept():
    names, _ = _found("(let [a (sample (normal 0 1))] (observe (normal a 1) 2) a)")
    assert names == ()


def test_a_hub_is_integrated_out_where_it_weighs_more_than_all_that_it_joins():
    model = Model.from_program(
        "(let [m (sample (normal 0 1)) a (sample (normal m 1)) b (sample (normal m 1))]"
        " (observe (normal a 1) 0.1) (observe (normal b 1) 0.2) m)"
    )
    hub, *leaves = model.graph.latents
    even = dict.fromkeys(model.graph.latents, 1.0)
    assert latents_to_integrate(model.graph, model.layout, even) == tuple(leaves)
    heavy = even | {hub: 5.0}
    assert latents_to_integrate(model.graph, model.layout, heavy) == (hub,)


def test_leaves_that_together_weigh_more_than_their_hub_are_taken():
    """Though each of them weighs less for those that it excludes than the hub does."""
    leaves = [f"t{i}" for i in range(4)]
    text = "(let [m (sample (normal 0 1)) s (sample (gamma 2 2)) "
    text += " ".join(f"{leaf} (sample (normal m s))" for leaf in leaves) + "] "
    text += " ".join(f"(observe (normal {leaf} 1) 0.1)" for leaf in leaves) + " m)"
    model = Model.from_program(text)
    mean, scale, *leaves = model.graph.latents
    weights = {mean: 0.1, scale: 1.0} | dict.fromkeys(leaves, 0.4)
    found = latents_to_integrate(model.graph, model.layout, weights)
    assert found == tuple(leaves)
    assert latents_to_integrate(model.graph, model.layout, {scale: 1.0}) == (scale,)

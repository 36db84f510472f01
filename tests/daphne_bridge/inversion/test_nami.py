"""Tests of daphne_bridge.inversion.nami; the judge by d-separation shares no code."""

import json
from functools import cache
from itertools import combinations, permutations
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daphne_bridge.errors import InversionError
from daphne_bridge.graph.document import parse_document
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.d_separation import judge, judge_inverse
from daphne_bridge.inversion.elimination_plans import MODES, PUBLISHED, RULES, Plan
from daphne_bridge.inversion.nami import Inverse, invert, invert_dag

from ..dags import (
    Example,
    all_dags,
    arithmetic_circuit,
    binary_tree,
    convolution,
    dags,
    groups,
    regression,
    state_space,
)

ALL_PLANS = tuple(
    Plan(mode, rule, barren)
    for mode in MODES
    for rule in RULES
    for barren in ("in turn", "from prior")
)


def inverse_of(example: Example, **options) -> Inverse:
    return invert_dag(example.names, example.parents, example.observed, **options)


def assert_good(example: Example, inverse: Inverse) -> None:
    assert sorted(inverse.latents) == sorted(example.latents)
    found = judge(example.parents, example.observed, inverse.latents, inverse.parents)
    assert found.false_claims == ()
    assert found.removable == ()


def edges_of(inverse: Inverse) -> set[tuple[str, str]]:
    return {(p, z) for z, above in inverse.parents.items() for p in above}


# Small graphs


def test_the_published_inverse_of_the_arithmetic_circuit_has_twelve_edges() -> None:
    """Worked by hand; z4 has no fill but z3-z5, which are neighbours already."""
    inverse = inverse_of(arithmetic_circuit(), plans=PUBLISHED[:1])
    assert edges_of(inverse) == {
        *[("z3", "z4"), ("z5", "z4")],
        *[("z1", "z0"), ("z2", "z0"), ("z3", "z0")],
        *[("z2", "z1"), ("z3", "z1")],
        ("z3", "z2"),
        *[("z5", "z3"), ("x0", "z3")],
        *[("x0", "z5"), ("x1", "z5")],
    }


def test_the_best_inverse_of_the_arithmetic_circuit_has_eleven_edges() -> None:
    """z2 has no data: drawn last from its own parents it saves one edge."""
    inverse = inverse_of(arithmetic_circuit())
    assert inverse.num_edges == len(edges_of(inverse)) == 11
    assert inverse.parents["z2"] == ("z1", "z0") or inverse.parents["z2"] == (
        "z0",
        "z1",
    )
    counts = {candidate.edges for candidate in inverse.candidates}
    assert min(counts) == 11
    assert inverse.candidate.edges == 11
    assert inverse.candidate.plan == Plan("topological", "min-fill", "from prior")


def fewest_edges_of_all_orders(example: Example) -> int:
    """Return the least number of edges over all sampling orders, by d-separation.

    In an order the parents of a latent are those known nodes that it is not separated
    from by all other known nodes.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(example.names)
    graph.add_edges_from((p, n) for n, above in example.parents.items() for p in above)

    @cache
    def count(latent: str, known: frozenset[str]) -> int:
        return sum(
            not nx.is_d_separator(graph, {latent}, {other}, set(known - {other}))
            for other in known
        )

    return min(
        sum(
            count(latent, frozenset([*example.observed, *order[:i]]))
            for i, latent in enumerate(order)
        )
        for order in permutations(example.latents)
    )


def test_no_order_at_all_beats_eleven_edges_on_the_circuit() -> None:
    assert fewest_edges_of_all_orders(arithmetic_circuit()) == 11


@settings(max_examples=60)
@given(dags(6))
def test_no_candidate_claims_fewer_edges_than_the_best_order_has(example) -> None:
    assert inverse_of(example).num_edges >= fewest_edges_of_all_orders(example)


def test_a_barren_collider_does_not_leave_superfluous_edges() -> None:
    """In a -> w <- b, a -> v, b -> u an early w marries a and b for nothing."""
    example = Example(
        ["a", "b", "w", "v", "u"],
        {"a": [], "b": [], "w": ["a", "b"], "v": ["a"], "u": ["b"]},
        [],
    )
    plan = Plan("topological", "program order", "in turn")
    inverse = inverse_of(example, plans=[plan])
    assert inverse.latents == ("u", "v", "w", "b", "a")
    assert inverse.parents["v"] == ()
    assert inverse.candidate.removable == 1
    assert_good(example, inverse)


def test_observed_nodes_never_get_parents_and_latents_stand_once() -> None:
    inverse = inverse_of(state_space(6))
    assert set(inverse.parents) == {f"z{t}" for t in range(6)}
    assert inverse.observed == tuple(f"x{t}" for t in range(6))


@settings(max_examples=100)
@given(dags(9), st.sampled_from(ALL_PLANS))
def test_ancestors_are_those_that_networkx_finds(example, plan) -> None:
    inverse = inverse_of(example, plans=[plan])
    graph = nx.DiGraph(edges_of(inverse))
    graph.add_nodes_from(inverse.latents)
    for latent in inverse.latents:
        assert set(inverse.ancestors(latent)) == nx.ancestors(graph, latent)


def test_a_graph_without_latents_or_without_data_is_inverted() -> None:
    assert inverse_of(Example(["x"], {"x": []}, ["x"])).latents == ()
    chain = Example(["a", "b"], {"a": [], "b": ["a"]}, [])
    assert inverse_of(chain).num_edges == 1
    assert inverse_of(Example([], {}, [])).num_edges == 0


# The algorithm as published


def reference_nami(
    example: Example, mode: str
) -> tuple[list[str], dict[str, set[str]]]:
    """Return elimination order and parents, from the definition and with plain sets."""
    near: dict[str, set[str]] = {name: set() for name in example.names}
    for name in example.names:
        for one, other in combinations([*example.parents[name], name], 2):
            near[one].add(other)
            near[other].add(one)
    upstream = {
        latent: {
            other
            for other in example.latents
            if (other in example.parents[latent] and mode == "topological")
            or (latent in example.parents[other] and mode == "reverse")
        }
        for latent in example.latents
    }
    order: list[str] = []
    parents: dict[str, set[str]] = {}
    while len(order) < len(example.latents):
        frontier = [
            z for z in example.latents if z not in order and upstream[z] <= {*order}
        ]
        fill = {
            z: [(a, b) for a, b in combinations(near[z], 2) if b not in near[a]]
            for z in frontier
        }
        chosen = min(frontier, key=lambda z: len(fill[z]))
        for a, b in fill[chosen]:
            near[a].add(b)
            near[b].add(a)
        parents[chosen] = near.pop(chosen)
        for other in near.values():
            other.discard(chosen)
        order.append(chosen)
    return order, parents


@settings(max_examples=300)
@given(dags(9), st.sampled_from(["topological", "reverse", "any order"]))
def test_the_published_plans_follow_the_algorithm_step_by_step(example, mode) -> None:
    order, parents = reference_nami(example, mode)
    inverse = inverse_of(example, plans=[Plan(mode, "min-fill", "in turn")])
    assert list(inverse.latents) == order[::-1]
    removed = 0
    for latent in inverse.latents:
        assert set(inverse.parents[latent]) <= parents[latent]
        removed += len(parents[latent]) - len(inverse.parents[latent])
    assert inverse.candidate.removable == removed


@pytest.mark.parametrize("mode", ["topological", "reverse", "any order"])
@pytest.mark.parametrize(
    "example",
    [binary_tree(63), convolution(7, 1, has_filter=True), groups(12), state_space(40)],
    ids=["tree", "convolution", "groups", "chain"],
)
def test_larger_graphs_follow_the_algorithm_step_by_step(example, mode) -> None:
    order, parents = reference_nami(example, mode)
    inverse = inverse_of(example, plans=[Plan(mode, "min-fill", "in turn")])
    assert list(inverse.latents) == order[::-1]
    for latent in inverse.latents:
        assert set(inverse.parents[latent]) == parents[latent]


# Faithful and minimal


def assert_every_plan_is_good(example) -> None:
    seen = set()
    for plan in ALL_PLANS:
        inverse = inverse_of(example, plans=[plan])
        if inverse.parents not in seen:
            seen.add(inverse.parents)
            assert_good(example, inverse)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_plan_is_good_on_all_graphs_of_up_to_three_nodes(count) -> None:
    for example in all_dags(count):
        assert_every_plan_is_good(example)


def test_all_graphs_of_four_nodes_with_every_choice_of_data_are_inverted() -> None:
    for example in all_dags(4):
        assert_good(example, inverse_of(example))


@pytest.mark.slow
def test_every_plan_is_good_on_all_graphs_of_four_nodes() -> None:
    for example in all_dags(4):
        assert_every_plan_is_good(example)


@settings(max_examples=300)
@given(dags(9), st.sampled_from(ALL_PLANS))
def test_random_graphs_are_inverted_well_by_every_plan(example, plan) -> None:
    assert_good(example, inverse_of(example, plans=[plan]))


@pytest.mark.slow
@settings(max_examples=5_000)
@given(dags(9), st.sampled_from(ALL_PLANS))
def test_thousands_of_random_graphs_are_inverted_well(example, plan) -> None:
    assert_good(example, inverse_of(example, plans=[plan]))
    assert_good(example, inverse_of(example))


@settings(max_examples=100)
@given(dags(9))
def test_the_fewest_edges_of_all_candidates_are_kept(example) -> None:
    inverse = inverse_of(example)
    counts = [candidate.edges for candidate in inverse.candidates]
    assert None not in counts
    assert inverse.num_edges == min(counts)
    for candidate in inverse.candidates:
        alone = inverse_of(example, plans=[candidate.plan])
        assert alone.num_edges == candidate.edges


def test_hopeless_candidates_of_a_large_tree_are_stopped_and_good_ones_finish() -> None:
    """Top down a tree's inverse is nearly full; bottom up it is sparse and cheap."""
    inverse = inverse_of(binary_tree(2**11 - 1))
    edges = {candidate.plan: candidate.edges for candidate in inverse.candidates}
    assert edges[PUBLISHED[0]] is None
    assert edges[PUBLISHED[1]] == inverse.num_edges == 10 * 2**10 + 2**10 - 2
    later = Plan("reverse", "min-fill, most parents", "in turn")
    assert edges[later] == inverse.num_edges


# Graphs of documents


DOCUMENT = """[{}, {"V": ["sample1", "sample2", "observe3"],
  "A": {"sample1": ["sample2"], "sample2": ["observe3"]},
  "P": {"sample1": ["sample*", ["normal", 0, 1]],
        "sample2": ["sample*", ["normal", "sample1", 1]],
        "observe3": ["observe*", ["normal", "sample2", 1], 0.5]},
  "Y": {"observe3": 0.5}}, "sample1"]"""


def test_a_graph_is_inverted_and_names_its_model() -> None:
    graph = Graph.from_document(parse_document(DOCUMENT))
    inverse = invert(graph)
    assert inverse.digest == graph.digest
    assert inverse.num_edges == 2
    assert judge_inverse(graph, inverse).is_faithful
    assert judge_inverse(graph, inverse).is_minimal


# Names


@settings(max_examples=100)
@given(dags(9), st.randoms(use_true_random=False))
def test_a_renaming_that_keeps_the_order_commutes_with_inversion(example, rng) -> None:
    fresh = [f"m{i}" for i in range(len(example.names))]
    rng.shuffle(fresh)
    new = dict(zip(example.names, fresh, strict=True))
    renamed = invert_dag(
        fresh,
        {new[n]: [new[p] for p in above] for n, above in example.parents.items()},
        [new[n] for n in example.observed],
    )
    inverse = inverse_of(example)
    assert renamed.latents == tuple(new[z] for z in inverse.latents)
    assert renamed.observed == tuple(new[x] for x in inverse.observed)
    assert {z: {*above} for z, above in renamed.parents.items()} == {
        new[z]: {new[p] for p in above} for z, above in inverse.parents.items()
    }
    assert renamed.candidates == inverse.candidates


def test_the_order_in_which_parents_are_listed_does_not_matter() -> None:
    example = arithmetic_circuit()
    turned = {name: above[::-1] for name, above in example.parents.items()}
    assert invert_dag(example.names, turned, example.observed) == inverse_of(example)


@pytest.mark.parametrize(
    ("names", "parents", "observed", "message"),
    [
        (
            ["a", "b"],
            {"a": ["b"], "b": ["a"]},
            [],
            "cycle; expected an acyclic graph; ",
        ),
        (["a", "a"], {}, [], "node a: the name stands twice"),
        (["a"], {"a": ["b"]}, [], "node a: unknown parent; .*; got b"),
        (["a"], {}, ["x"], "unknown node; expected a node of the graph; got x"),
        (["a"], {"q": []}, [], "parents: unknown node; expected a node; got q"),
    ],
)
def test_a_bad_graph_is_refused(names, parents, observed, message) -> None:
    with pytest.raises(InversionError, match=message):
        invert_dag(names, parents, observed)


# Size and budget


def test_a_long_chain_has_the_edges_of_its_closed_form_in_published_mode() -> None:
    """State t reads the next state, if any, and the t + 1 observations so far."""
    steps = 1_000
    inverse = inverse_of(state_space(steps), plans=PUBLISHED[:1])
    assert inverse.num_edges == steps * (steps + 1) // 2 + steps - 1
    assert inverse.parents["z1"] == ("z2", "x0", "x1")
    assert len(inverse.parents[f"z{steps - 1}"]) == steps
    assert len(inverse.ancestors("z0")) == 2 * steps - 1


def test_chains_of_any_order_grow_much_slower_than_the_square() -> None:
    inverse = inverse_of(state_space(1_000))
    assert inverse.num_edges < 12_000


def test_a_tree_has_the_edges_of_its_closed_form() -> None:
    """Bottom up each node reads its parent and all leaves under it."""
    depth = 9
    example = binary_tree(2 ** (depth + 1) - 1)
    inverse = inverse_of(example)
    assert inverse.num_edges == depth * 2**depth + 2**depth - 2
    assert inverse.mode == "reverse"


def test_weights_of_a_regression_read_all_points() -> None:
    inverse = inverse_of(regression(500, 4))
    assert inverse.num_edges == 4 * 500 + 6


def test_a_small_budget_stops_candidates_but_not_all() -> None:
    example = convolution(9, 1, has_filter=True)
    inverse = inverse_of(example, work=1)
    counts = [candidate.edges for candidate in inverse.candidates]
    assert None in counts
    assert inverse.candidate.plan.rule == "program order"
    assert inverse.num_edges == min(c for c in counts if c is not None)
    assert inverse == inverse_of(example, work=1)


# Golden programs


INVERSES = json.loads(
    Path(__file__).parents[2].joinpath("golden", "inverses.json").read_text("utf-8")
)
"""By program: the graph's parents and observed nodes, the original's inverse."""


@pytest.mark.parametrize("name", INVERSES)
def test_golden_programs_never_get_more_edges_than_the_original_gave(name) -> None:
    """The original's inverse counts only where it is faithful: its graph lost edges."""
    case = INVERSES[name]
    example = Example(list(case["parents"]), case["parents"], case["observed"])
    inverse = inverse_of(example)
    if len(example.names) <= 60:
        assert_good(example, inverse)
    original = case["original"]
    order = _sampling_order(original, example.observed)
    try:
        verdict = judge(example.parents, example.observed, order, original)
    except InversionError:
        pytest.skip("the original's inverse is not one of this graph")
    if not verdict.is_faithful:
        pytest.skip("the original's inverse is not faithful")
    assert inverse.num_edges <= sum(map(len, original.values()))


def _sampling_order(parents: dict[str, list[str]], observed) -> list[str]:
    known = set(observed)
    order: list[str] = []
    while len(order) < len(parents):
        ready = [z for z in parents if z not in known and known >= {*parents[z]}]
        if not ready:
            return order
        order.append(ready[0])
        known.add(ready[0])
    return order


@given(dags(9), st.integers(0, 2**9 - 1))
def test_latents_that_are_summed_out_come_last_in_a_faithful_inverse(example, bits):
    latents = [name for name in example.names if name not in example.observed]
    summed_out = [name for i, name in enumerate(latents) if bits >> i & 1]
    inverse = inverse_of(example, summed_out=summed_out)
    assert_good(example, inverse)
    kept = len(latents) - len(summed_out)
    assert set(inverse.latents[kept:]) == set(summed_out)
    # What stands before them is an inverse of the model without them: closed by itself.
    before = {*inverse.latents[:kept], *example.observed}
    assert all(set(inverse.parents[z]) <= before for z in inverse.latents[:kept])


def test_a_chain_of_hidden_states_that_are_summed_out_leaves_its_parameters():
    parents = {"a": [], "z0": []}
    for t in range(1, 6):
        parents[f"z{t}"] = [f"z{t - 1}", "a"]
        parents[f"x{t}"] = [f"z{t}"]
    observed = [name for name in parents if name.startswith("x")]
    states = [name for name in parents if name.startswith("z")]
    inverse = invert_dag(list(parents), parents, observed, summed_out=states)
    assert inverse.latents[0] == "a"
    assert set(inverse.parents["a"]) == set(observed)

"""Tests of daphne_bridge.graph.graph and of reading link functions."""

import pytest

from daphne_bridge.errors import GraphError
from daphne_bridge.graph.document import NodeNames
from daphne_bridge.graph.expression import show
from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.primitives import Keyword

from ..documents import CIRCUIT, CIRCUIT_DATA, make_document, make_graph


def refused(links, data=None, functions=None):
    with pytest.raises(GraphError) as caught:
        Graph.from_document(make_document(links, data, functions))
    return str(caught.value)


def test_the_circuit_has_its_nodes_parents_and_children():
    graph = make_graph(CIRCUIT, CIRCUIT_DATA)
    assert graph.latents == tuple(f"sample{i}" for i in range(2, 8))
    assert graph.observed == ("observe8", "observe9")
    assert graph.parents("sample4") == ("sample2", "sample3")
    assert graph.children("sample5") == ("sample7", "observe8")
    assert graph.node("observe8").observation == -9.7


def test_parents_stand_before_children_whatever_the_order_of_the_document():
    reversed_links = dict(reversed(CIRCUIT.items()))
    graph = make_graph(reversed_links, CIRCUIT_DATA)
    assert graph.latents == tuple(f"sample{i}" for i in range(2, 8))


def test_parents_come_from_link_functions_and_lost_arcs_are_a_warning():
    document = make_document(
        CIRCUIT, CIRCUIT_DATA, arcs={"sample2": ["sample4", "sample7"], "reduce": []}
    )
    graph = Graph.from_document(document)
    assert graph.parents("sample7") == ("sample5", "sample6")
    said = "\n".join(map(str, graph.warnings))
    assert "sample3 -> sample4" in said
    assert "has arcs that no link function uses: sample2 -> sample7" in said
    assert "keys that are no nodes are ignored: reduce" in said


def test_the_condition_of_an_observe_is_a_parent():
    graph = make_graph(
        {
            "sample1": ["sample*", ["flip", 0.4]],
            "observe2": [
                "if",
                ["and", True, ["not", "sample1"]],
                ["observe*", ["normal", 1, 1], 0.7],
                1,
            ],
        },
        {"observe2": 0.7},
    )
    node = graph.node("observe2")
    assert node.parents == ("sample1",)
    assert node.condition is not None
    assert show(node.condition) == "(not sample1)"


def test_an_observe_that_never_happens_is_left_out_with_a_warning():
    graph = make_graph({"observe1": 1}, {"observe1": 3})
    assert graph.nodes == ()
    assert "never happens" in str(graph.warnings[0])


def test_user_functions_inside_observes_are_inlined():
    document = make_document(
        {
            "sample1": ["sample*", ["normal", 0, 1]],
            "observe2": ["observe*", ["normal", ["sq", "sample1"], 1], 2],
        },
        {"observe2": 2},
        {"sq": ["fn", ["x"], ["let", ["y", "x"], ["*", "x", "y"]]]},
    )
    node = Graph.from_document(document).node("observe2")
    assert show(node.distribution) == "(normal (* sample1 sample1) 1)"


def test_loops_foreach_and_recursion_in_functions_are_unrolled():
    functions = {
        "step": ["fn", ["k", "acc", "v"], ["+", "acc", ["get", "v", "k"]]],
        "total": ["fn", ["v"], ["loop", ["count", "v"], 0, "step", "v"]],
        "down": ["fn", ["n", "x"], ["if", ["=", "n", 0], "x",
                                   ["down", ["-", "n", 1], ["inc", "x"]]]],
        "twice": ["fn", ["v"], ["foreach", 2, ["vector", "x", "v"], ["*", 2, "x"]]],
    }  # fmt: skip
    links = {
        "sample0": ["sample*", ["normal", 0, 1]],
        "observe1": [
            "observe*",
            ["normal", ["total", ["twice", ["vector", "sample0", 3]]], ["down", 2, 1]],
            0,
        ],
    }
    graph = Graph.from_document(make_document(links, {"observe1": 0}, functions))
    shown = show(graph.node("observe1").distribution)
    assert shown == "(normal (+ (+ 0 (* 2 sample0)) 6) 3)"


def test_quotes_inside_strings_mean_text_and_keys_of_maps_are_keywords():
    graph = make_graph(
        {
            "sample0": ["sample*", ["normal", 0, 1]],
            "observe1": [
                "observe*",
                ["normal", ["get", ["hash-map", "a", "sample0"], "a"], 1],
                1.5,
            ],
            "observe2": [
                "observe*",
                ["categorical", ["vector", ["vector", '"x"', 1]]],
                '"x"',
            ],
            "observe3": [
                "observe*",
                ["categorical", ["vector", ["vector", "red", 1]]],
                "red",
            ],
        },
        {"observe1": 1.5, "observe2": '"x"', "observe3": "red"},
    )
    assert graph.node("observe3").observation == "red"
    assert isinstance(graph.node("observe3").observation, Keyword)
    assert show(graph.node("observe1").distribution) == "(normal sample0 1)"
    assert graph.node("observe2").observation == "x"


def test_plain_arrays_in_y_are_vectors():
    links = {
        "observe1": ["observe*", ["mvn", ["vector", 0, 0],
                     ["vector", ["vector", 1, 0], ["vector", 0, 1]]],
                     ["vector", 1, 2.5]]}  # fmt: skip
    graph = make_graph(links, {"observe1": [1, 2.5]})
    assert graph.node("observe1").observation == (1, 2.5)


def test_every_problem_is_reported_at_once_with_its_path():
    said = refused(
        {
            "sample0": ["sample*", ["couchy", 0, 1]],
            "sample1": ["sample*", ["normal", "nobody"]],
            "sample2": ["sample*", ["normal", ["exp", 1, 2], 1]],
            "sample3": ["sample*", ["+", 1, ["sample", ["normal", 0, 1]]]],
            "sample4": ["draw", 3],
            "observe5": ["observe*", ["normal", 0, 1], 3],
        },
        {"observe5": 4, "observe9": 1},
    )
    for part in (
        "$[1].P.sample0[1][0]: unknown name couchy",
        "$[1].P.sample1[1][1]: unknown name nobody",
        "$[1].P.sample2[1][1]: exp has 2 arguments; expected 1",
        "$[1].P.sample3[1][2]: a sample inside a link function",
        "$[1].P.sample4: not a link function",
        "$[1].Y.observe5: the observation differs from the one in P; expected 3; got 4",
        "$[1].Y.observe9: observe9 is no node of V",
    ):
        assert part in said


def test_a_distribution_with_a_wrong_number_of_parameters_is_refused():
    said = refused({"sample0": ["sample*", ["normal", 0]]})
    assert "normal has 1 parameter; expected 2 (mean, standard deviation)" in said


def test_a_cycle_is_refused_and_named():
    said = refused(
        {
            "sample1": ["sample*", ["normal", "sample2", 1]],
            "sample2": ["sample*", ["normal", "sample3", 1]],
            "sample3": ["sample*", ["normal", "sample1", 1]],
        }
    )
    assert "cycle: sample1 -> sample3 -> sample2 -> sample1" in said


def test_an_observation_that_depends_on_a_node_is_refused():
    said = refused(
        {
            "sample1": ["sample*", ["normal", 0, 1]],
            "observe2": ["observe*", ["normal", 0, 1], "sample1"],
        },
        {"observe2": "sample1"},
    )
    assert "the observation depends on sample1; expected data" in said


def test_an_observe_without_data_and_a_sample_with_data_are_refused():
    said = refused(
        {
            "sample1": ["sample*", ["normal", 0, 1]],
            "observe2": ["observe*", ["normal", 0, 1], 1],
        },
        {"sample1": 3},
    )
    assert "an observed node has no observation in Y" in said
    assert "a sampled node has an observation" in said


def test_deeply_nested_link_functions_are_read():
    term: object = "sample0"
    for _ in range(100_000):
        term = ["inc", term]
    graph = make_graph(
        {
            "sample0": ["sample*", ["normal", 0, 1]],
            "sample1": ["sample*", ["normal", term, 1]],
        }
    )
    assert graph.parents("sample1") == ("sample0",)


def test_nodes_are_found_by_either_name():
    graph = Graph.from_document(
        make_document(CIRCUIT, CIRCUIT_DATA),
        NodeNames({"sample2": "z0", "sample3": "twin", "sample4": "twin"}),
    )
    assert graph.resolve("z0") == graph.resolve("sample2") == "sample2"
    with pytest.raises(GraphError, match="several nodes are called twin"):
        graph.resolve("twin")
    with pytest.raises(GraphError, match=r"no node is called w; .*sample2 \(z0\)"):
        graph.resolve("w")
    with pytest.raises(GraphError, match=r'no node is called ""; expected one'):
        graph.resolve("")
    with pytest.raises(GraphError, match=r"called a{57}\.\.\.; expected one"):
        graph.resolve("a" * 5_000)
    with pytest.raises(GraphError, match="perhaps sample2"):
        graph.resolve("sampel2")

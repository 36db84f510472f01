"""Tests of daphne_bridge.graph.arrangements, against Clojure's meaning written out."""

import pytest

from daphne_bridge.graph.expression import free_names
from tests.flows.model.programs import graph_of

PICKS = {
    "(peek s)": "c",
    "(peek (list a b c))": "a",
    "(peek (pop s))": "b",
    "(first (next s))": "b",
    "(first (reverse s))": "c",
    "(first (conj (list a b) c))": "c",
    "(first (rest (conj (list a b) c)))": "a",
    "(last (conj (rest s) a))": "c",
    "(first (take-last 2 s))": "b",
    "(first (drop 1 s))": "b",
    "(last (drop-last 1 s))": "b",
    "(last (last (partition 1 s)))": "c",
    "(nth (interleave s s) 3)": "b",
    "(get-in [s] [0 1])": "b",
    "(get-in {:k {:j b} :c c} [:k :j])": "b",
    "(ffirst [s])": "a",
    "(nth (into [] s) 1)": "b",
    "(get (assoc s 0 c) 0)": "c",
    "(:k (assoc {:k a} :j b))": "a",
    "(:j (merge {:k a :j a} {:j b}))": "b",
    "(:k (dissoc {:k a :j b} :j))": "a",
    "(:j (select-keys {:k a :j b} [:j]))": "b",
    "(:k (zipmap [:j :k] s))": "b",
    "(second (vals {:k a :j b}))": "b",
    "(get-in [s] [0 4] b)": "abc",
    "(get s (if (> a 0) 1 2))": "abc",
    "(get (zipmap [a 1] s) 1)": "abc",
    "(get (conj {1 b} [a c]) 1)": "abc",
    "(get (into {1 b} [[a c]]) 1)": "abc",
}


@pytest.mark.parametrize("access", PICKS)
def test_a_link_function_reads_what_an_access_picks(access):
    """Seen: a chain that read the last of its states by `peek` had all as parents."""
    graph = graph_of(
        f"""(let [a (sample "a" (normal 0 1)) b (sample "b" (normal 0 1))
                  c (sample "c" (normal 0 1)) s [a b c]]
              (observe (normal {access} 1) 0))"""
    )
    names = free_names(graph.node(graph.observed[0]).distribution)
    assert "".join(sorted(name[0] for name in names)) == PICKS[access]

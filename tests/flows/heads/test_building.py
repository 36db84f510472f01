"""Tests of flows.heads.building."""

import networkx as nx

from flows.heads.building import headed_inverse, headed_structure, inner_structure
from flows.heads.cells import Cells
from flows.marginal.target import target_of
from flows.model.model import Model

PROGRAM = """
(let [a (sample (flip 0.4))
      s (sample (flip (if a 0.7 0.2)))
      b (sample (flip (if s 0.9 0.1)))
      z (sample (normal (if b 1 0) 1))
      w (sample (normal z 1))]
  (observe (normal (if a z 0) 1) 0.2)
  (observe (normal w 1) 0.3)
  z)
"""
"""Of its flips the middle one, `s`, is summed out."""


def _target():
    return target_of(Model.from_program(PROGRAM), sampled=("sample0", "sample2"))


def test_continuous_latents_come_first_and_what_is_summed_out_is_not_there():
    inverse = headed_inverse(_target())
    assert set(inverse.latents[:2]) == {"sample3", "sample4"}
    assert set(inverse.latents[2:]) == {"sample0", "sample2"}
    for place, name in enumerate(inverse.latents):
        before = {*inverse.latents[:place], "observe5", "observe6"}
        assert set(inverse.parents[name]) <= before


def test_heads_read_enough():
    """Given what it reads, each latent is d-separated from all that came before."""
    target = _target()
    inverse = headed_inverse(target)
    edges = [(p, node.name) for node in target.graph.nodes for p in node.parents]
    graph = nx.DiGraph(edges)
    for place, name in enumerate(inverse.latents):
        reads = {*inverse.parents[name]}
        rest = {*inverse.latents[:place], *target.graph.observed} - reads
        assert nx.is_d_separator(graph, {name}, rest, reads)


def test_the_inner_structure_has_columns_of_its_own():
    target = _target()
    structure, cells = headed_structure(
        target, headed_inverse(target), {"sample3": 2}, num_draws=1000, seed=0
    )
    inner = inner_structure(structure, len(cells))
    assert inner.names == structure.names[:2]
    assert sorted(c for b in inner.blocks for c in b.free_columns) == [0, 1]
    assert inner.nuisance_dim == structure.nuisance_dim == 2
    assert [*cells] == 2 * [Cells((0, 1, 2))]

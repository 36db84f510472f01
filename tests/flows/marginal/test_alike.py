"""Tests of flows.marginal.alike: entries of observed nodes that are alike."""

import itertools

import pytest
import torch

from flows.errors import ModelError
from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.model.programs import graph_of

POINTS = 9
"""More than are written out one by one."""

OBSERVES = {
    "numbers": "(observe (normal (get m z) (if (= z 0) s 2)) y)",
    "counts": "(observe (poisson (+ 0.5 (* s (+ 1 z)))) (get [2 0 1] (rem i 3)))",
    "vectors": "(observe (dirichlet (get [[1 s 2] [2 1 s]] z)) [0.2 0.3 0.5])",
    "categories": "(observe (discrete [s (+ 1 z) 0.5]) (rem i 3))",
}


def program(observe):
    rows = "\n".join(
        f"(let [i {i} y {0.3 * i - 1} z (sample (flip p)) z (if z 1 0)] {observe})"
        for i in range(POINTS)
    )
    return (
        "(let [p (sample (beta 2 2)) s (sample (gamma 2 1))"
        f" m [(sample (normal 0 1)) (sample (normal 1 1))]] {rows} p)"
    )


@pytest.mark.parametrize("kind", OBSERVES)
def test_alike_nodes_have_the_density_and_gradient_of_enumeration(kind):
    model = Model.from_graph(graph_of(program(OBSERVES[kind])))
    collapsed = collapse(model)
    assert [len(group.tables) for group in collapsed.tables.alike] == [POINTS]
    observed = model.observation()
    c = collapsed.sample_latents(4, generator=torch.Generator().manual_seed(0))
    c.requires_grad_()
    flips = torch.tensor(list(itertools.product([0.0, 1.0], repeat=POINTS))).double()
    full = c.new_zeros(len(flips), 4, model.layout.latent_dim)
    kept = [
        column
        for v in collapsed.layout.latents
        for column in range(
            model.layout.variable(v.name).start, model.layout.variable(v.name).stop
        )
    ]
    others = [i for i in range(model.layout.latent_dim) if i not in kept]
    full[..., others] = flips[:, None]
    full[..., kept] = c
    expected = model.log_joint(full, observed).logsumexp(0)
    found = collapsed.log_joint(c, observed)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    (slope,) = torch.autograd.grad(found.sum(), c)
    (expected_slope,) = torch.autograd.grad(expected.sum(), c)
    torch.testing.assert_close(slope, expected_slope, atol=1e-9, rtol=1e-10)


def test_alike_nodes_take_data_row_by_row():
    model = Model.from_graph(graph_of(program(OBSERVES["numbers"])))
    collapsed = collapse(model)
    draws = collapsed.sample(5, generator=torch.Generator().manual_seed(1))
    found = collapsed.log_joint(draws.latents, draws.observed)
    each = [
        collapsed.log_joint(*pair)
        for pair in zip(draws.latents, draws.observed, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(each), atol=1e-10, rtol=0)


def test_alike_nodes_without_meaning_anywhere_possible_are_refused():
    text = program("(observe (flip (if (= z 0) (+ 1 s) (* 0.5 p))) true)")
    collapsed = collapse(Model.from_graph(graph_of(text)))
    assert collapsed.tables.alike
    row = torch.tensor([[0.4, 1.0, 0.0, 1.0]], dtype=torch.float64)
    with pytest.raises(ModelError, match="without meaning"):
        collapsed.log_joint(row, collapsed.model.observation())

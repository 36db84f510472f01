"""Tests of flows.model.lowered_graph."""

import json

from .programs import (
    model_of,
)


def test_the_layout_follows_the_graph():
    graph, model = model_of("matrices")
    layout = model.layout
    assert [v.name for v in layout.latents] == list(graph.latents)
    assert [(v.label, v.shape) for v in layout.latents] == [
        ("m", (2,)),
        ("w", (2, 2)),
        ("t", (2,)),
    ]
    assert layout.latent_dim == 8
    assert layout.free_dim == 7
    assert layout.variable(graph.latents[1]).column_names == (
        "w[0,0]",
        "w[0,1]",
        "w[1,0]",
        "w[1,1]",
    )
    assert json.dumps([v.free_stop for v in layout.latents]) == "[2, 5, 7]"

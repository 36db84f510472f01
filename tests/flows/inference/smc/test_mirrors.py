"""Tests of moves to mirror images."""

import pytest
import torch
from scipy import stats

from flows.inference.smc.mirrors import MirrorMoves, mirrors_of
from flows.inference.smc.moves import Hamiltonian
from flows.inference.smc.point import Point
from flows.inference.smc.schedule import Stage
from flows.model.model import Model
from tests.flows.model.programs import graph_of

from ..targets import seeded


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("(let [s (sample (normal 0 2))] (observe (normal 1 (abs s)) 2) s)", (0,)),
        ("(let [s (sample (normal 0.1 2))] (observe (normal 1 (abs s)) 2) s)", ()),
        (
            """(let [m (sample (normal 0 5)) s (sample (normal 0 2))]
              (observe (normal m (sqrt (* s s))) 2) s)""",
            (1,),
        ),
        ("(let [s (sample (gamma 2 2))] (observe (normal 1 s) 2) s)", ()),
    ],
)
def test_a_sign_that_does_not_matter_is_found_and_no_other(text, columns):
    model = Model.from_graph(graph_of(text)).forgiving()
    observed = model.observation(None)
    assert mirrors_of(model, observed, generator=seeded(0)) == columns


def at_two(coordinates):
    """Reference N(1, 2), weight so that π_1 is even: N(±5, 0.5) in equal shares."""
    c = coordinates[:, 0]
    reference = -0.125 * (c - 1.0).square()
    even = torch.logaddexp(-2.0 * (c - 5.0).square(), -2.0 * (c + 5.0).square())
    return Point(coordinates, coordinates, reference, even - reference)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mirror_images_get_their_shares_at_every_temperature(temperature):
    """At 1/2 the density is √(N(1, 2) π_1): N(μ, σ) with a share of its own each."""
    start = torch.full((4000, 1), 5.0, dtype=torch.float64)
    factor = torch.tensor([[0.5]], dtype=torch.float64)
    stage = Stage(temperature, factor, 0.9, 12)
    move, generator, point = MirrorMoves((0,), Hamiltonian()), seeded(1), at_two(start)
    for _ in range(12):
        point = move.step(point, at_two, stage, generator).point
    values = point.coordinates[:, 0].numpy()
    # Of each mode: exp(-a (c - m)² - b (c - 1)²), m = ±5.
    a, b = 2.0 * temperature, 0.125 * (1.0 - temperature)
    masses = [
        stats.norm.pdf(m, 1.0, (0.5 / a + 0.5 / b) ** 0.5) if b else 1.0
        for m in (5.0, -5.0)
    ]
    share = masses[0] / sum(masses)
    assert (values > 0).mean() == pytest.approx(share, abs=0.03)
    right = values[values > 0]
    middle = (a * 5.0 + b) / (a + b)
    assert stats.kstest(right, stats.norm(middle, (0.5 / (a + b)) ** 0.5).cdf)[1] > 1e-3

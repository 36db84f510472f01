"""Tests of flows.cnf.pushed_noise; the oracle pulls its noise back by autograd."""

import pytest
import torch

from flows.cnf.baselines import build_baseline_field
from flows.cnf.engine import Rows
from flows.cnf.paper_engine import AdjointEngine
from flows.cnf.pushed_noise import PushedNoiseEngine

from .random_structures import random_structure


def rows(structure, num):
    generator = torch.Generator().manual_seed(7)
    start, observed = (
        torch.randn(2, num, width, generator=generator, dtype=torch.float64)
        for width in (structure.state_dim, structure.observed_dim)
    )
    return Rows(start, observed, torch.tensor([1.0, -1.0], dtype=torch.float64))


def noise():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("name", ["ffjord", "random"])
def test_it_agrees_with_the_adaptive_solve_at_equal_noise(name):
    structure = random_structure(1)
    field = build_baseline_field(name, structure, seed=4).double()
    with torch.no_grad():
        for part in (*field.weights[-1:], *field.time_bias):
            part.normal_(generator=noise())
    found = []
    for engine in (AdjointEngine(noise(), 1e-7), PushedNoiseEngine(noise(), 60)):
        field.zero_grad()
        solution = engine.solve_rows(field, rows(structure, 4))
        weight = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
        log_det = solution.log_det.sum(-1)
        (solution.state.square().sum() + (weight * log_det).sum()).backward()
        gradients = [p.grad for p in field.parameters() if p.requires_grad]
        found.append([solution.state.detach(), log_det.detach(), *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_its_error_falls_with_the_fourth_power_of_the_steps():
    structure = random_structure(2)
    field = build_baseline_field("full", structure, seed=1).double()
    with torch.no_grad():
        field.weights[-1].mul_(10.0)
        ends = [
            PushedNoiseEngine(noise(), 4)
            .with_steps(n)
            .solve_rows(field, rows(structure, 8))
            for n in (1, 2, 16)
        ]
    for of in ("state", "log_det"):
        coarse, fine, exact = (getattr(end, of) for end in ends)
        assert (fine - exact).abs().max() < (coarse - exact).abs().max() / 10

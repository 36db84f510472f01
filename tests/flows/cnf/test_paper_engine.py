"""Tests of flows.cnf.paper_engine."""

import pytest
import torch

from flows.cnf.baselines import build_baseline_field
from flows.cnf.engine import TorchEngine
from flows.cnf.paper_engine import AdjointEngine, ExactTraceEngine

from .random_structures import case, random_structure


def rows(structure, num, seed=7):
    generator = torch.Generator().manual_seed(seed)

    def normal(width):
        return torch.randn(2, num, width, generator=generator, dtype=torch.float64)

    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    return normal(structure.state_dim), normal(structure.observed_dim), sign


def adjoint(seed=0, **options):
    return AdjointEngine(torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("name", ["full", "ffjord"])
def test_log_determinant_of_a_dense_network_is_that_of_its_jacobian(name):
    structure = random_structure(1)
    field = build_baseline_field(name, structure, seed=4).double()
    with torch.no_grad():
        field.weights[-1].mul_(10.0)
    start, observed, sign = rows(structure, 1)
    engine = TorchFree(field, observed, sign)
    solution = ExactTraceEngine(1e-9).solve(field, start, observed, sign)
    for way in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda z, way=way: engine.end(z, way), start[way, 0]
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        found = solution.log_det[way, 0].sum()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        end = engine.end(start[way, 0], way)
        torch.testing.assert_close(solution.state[way, 0], end, rtol=1e-6, atol=1e-6)


class TorchFree:
    """Runge-Kutta 4 with 200 steps on the bare field."""

    def __init__(self, field, observed, sign):
        self.field, self.observed, self.sign = field, observed, sign

    def end(self, state, way):
        sign, step = float(self.sign[way]), 1 / 200

        def f(s, z):
            t = torch.tensor(s if sign > 0 else 1 - s, dtype=torch.float64)
            return sign * self.field.velocity(t, z[None], self.observed[way])[0]

        for number in range(200):
            s = number * step
            k1 = f(s, state)
            k2 = f(s + step / 2, state + step / 2 * k1)
            k3 = f(s + step / 2, state + step / 2 * k2)
            k4 = f(s + step, state + step * k3)
            state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return state


def test_the_noisy_divergence_is_unbiased():
    structure, field = case("cliques", 2)
    start, observed, sign = rows(structure, 1)
    many = 4000
    with torch.no_grad():
        noisy = adjoint().solve(
            field, start.expand(2, many, -1), observed.expand(2, many, -1), sign
        )
        exact = TorchEngine(20).solve(field, start, observed, sign)
    total = noisy.log_det.sum(-1)
    error = total.std(1) / many**0.5
    assert (error > 0).all()
    assert ((total.mean(1) - exact.log_det.sum(-1)[:, 0]).abs() < 5 * error).all()


def test_evaluations_are_counted_for_each_direction_and_the_adjoint():
    structure, field = case("scalars", 1)
    start, observed, sign = rows(structure, 4)
    engine = adjoint()
    calls = 0

    def counted(*_):
        nonlocal calls
        calls += 1

    plain = field.dense

    def dense():
        counted()
        return plain()

    field.dense = dense
    solution = engine.solve(field, start, observed, sign)
    assert engine.counts.to_latent + engine.counts.to_base == calls
    assert engine.counts.backward == 0
    forward = calls
    solution.log_det.sum().backward()
    assert engine.counts.backward == calls - forward > 0


def test_rows_that_cannot_be_solved_are_nan_and_spare_the_others():
    structure, field = case("scalars", 1)
    start, observed, sign = rows(structure, 4)
    start[0, 2] = torch.inf
    solution = ExactTraceEngine(1e-6).solve(field, start, observed, sign)
    bad = torch.isnan(solution.state).any(-1)
    assert bad.nonzero().tolist() == [[0, 2]]


def test_single_precision_is_refused_where_figures_are_made():
    structure, field = case("scalars", 1)
    start, observed, sign = rows(structure, 1)
    with pytest.raises(ValueError, match="expected a float64 flow"):
        ExactTraceEngine().solve(field, start.float(), observed, sign)

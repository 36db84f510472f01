"""Tests of flows.cnf.solve."""

import pytest
import torch

from flows.cnf import engine
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.solve import solve_adaptive, solve_fixed_step

from .random_structures import CASES, case

SIGNS = torch.tensor([1.0, -1.0]).double()


def _rows(structure, num, seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, num, structure.state_dim, generator=generator).double()
    observed = torch.randn(2, num, 3, generator=generator).double()
    return start, observed


def _perturbed(start, observed, size):
    """Rows of one start: one column moved up, then one down, for every column."""
    width = start.shape[-1]
    moves = torch.cat([torch.eye(width), -torch.eye(width)]).double() * size
    rows = start + moves
    return rows, observed.expand(2, 2 * width, observed.shape[-1])


@pytest.mark.parametrize("name", CASES)
def test_log_det_equals_that_of_the_jacobian_of_the_solve(name):
    structure, field = case(name, 1)
    dense = field.dense()
    start, observed = _rows(structure, 1, 2)
    width, size = structure.state_dim, 1e-4
    rows, repeated = _perturbed(start, observed, size)
    with torch.no_grad():
        moved = solve_fixed_step(
            dense, rows, dense.observed_term(repeated), SIGNS, 60
        ).state
        got = solve_fixed_step(dense, start, dense.observed_term(observed), SIGNS, 60)
    jacobian = (moved[:, :width] - moved[:, width:]).mT / (2.0 * size)
    node = torch.tensor(structure.state_node)
    for i in range(len(structure.blocks)):
        block = jacobian[:, node == i][:, :, node == i]
        wanted = torch.linalg.slogdet(block).logabsdet
        torch.testing.assert_close(got.log_det[:, 0, i], wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_solved_node_depends_only_on_its_reach(name):
    structure, field = case(name, 6)
    dense = field.dense()
    start, observed = _rows(structure, 1, 3)
    width = structure.state_dim
    rows, repeated = _perturbed(start, observed, 0.5)
    with torch.no_grad():
        end = solve_fixed_step(dense, start, dense.observed_term(observed), SIGNS, 4)
        moved = solve_fixed_step(
            dense, rows, dense.observed_term(repeated), SIGNS, 4
        ).state
        eyes = observed + 0.5 * torch.eye(3).double()
        seen = solve_fixed_step(
            dense, start.expand(2, 3, width), dense.observed_term(eyes), SIGNS, 4
        ).state
    for row, i in enumerate(structure.state_node):
        for column, j in enumerate(structure.state_node):
            difference = (moved[:, column, row] - end.state[:, 0, row]).abs().max()
            assert (float(difference) > 1e-12) == (j in structure.reach[i])
        for column in range(3):
            difference = (seen[:, column, row] - end.state[:, 0, row]).abs().max()
            is_read = column in structure.observed_reach[i]
            assert (float(difference) > 1e-12) == is_read


def test_error_of_fixed_steps_falls_with_the_fourth_power_of_their_number():
    structure, field = case("residual", 0)
    dense = field.dense()
    start, observed = _rows(structure, 6, 4)
    term = dense.observed_term(observed)
    exact = solve_adaptive(dense, start, term, SIGNS, tolerance=1e-11)
    errors = []
    for num_steps in (20, 40):
        with torch.no_grad():
            got = solve_fixed_step(dense, start, term, SIGNS, num_steps)
        errors.append(
            (
                (got.state - exact.state).abs().max(),
                (got.log_det - exact.log_det).abs().max(),
            )
        )
    for coarse, fine in zip(*errors, strict=True):
        assert 10 < float(coarse / fine) < 26


def test_a_large_network_is_solved_few_rows_at_a_time(monkeypatch):
    structure, field = case("scalars", 4)
    start, observed = _rows(structure, 7, 8)
    whole = AdaptiveEngine(1e-9).solve(field, start, observed, SIGNS)
    counts = []

    def solve(dense, rows, *others, **options):
        counts.append(rows.shape[1])
        return solve_adaptive(dense, rows, *others, **options)

    monkeypatch.setattr(engine, "solve_adaptive", solve)
    monkeypatch.setattr(engine, "_MOST_OUTPUTS", 3 * sum(field.widths) + 1)
    parts = AdaptiveEngine(1e-9).solve(field, start, observed, SIGNS)
    assert counts == [3, 3, 1]
    torch.testing.assert_close(parts.state, whole.state, atol=1e-7, rtol=0)
    torch.testing.assert_close(parts.log_det, whole.log_det, atol=1e-7, rtol=0)


def test_the_two_directions_undo_each_other():
    structure, field = case("vectors", 2)
    dense = field.dense()
    start, observed = _rows(structure, 5, 5)
    term = dense.observed_term(observed)
    there = solve_adaptive(dense, start, term, SIGNS, tolerance=1e-9)
    back = solve_adaptive(dense, there.state, term, -SIGNS, tolerance=1e-9)
    torch.testing.assert_close(back.state, start, atol=1e-7, rtol=0)
    torch.testing.assert_close(back.log_det, -there.log_det, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_fixed_step_solve_equal_finite_differences(name):
    structure, field = case(name, 7)
    start, observed = _rows(structure, 3, 6)
    generator = torch.Generator().manual_seed(8)
    of_state = torch.randn(start.shape, generator=generator).double()
    of_log_det = torch.randn(2, 3, 5, generator=generator).double()

    def loss():
        dense = field.dense()
        term = dense.observed_term(observed)
        got = solve_fixed_step(dense, start, term, SIGNS, 3)
        return (got.state * of_state).sum() + (got.log_det * of_log_det).sum()

    parameters = list(field.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    step = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator).double()
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            above = loss()
            parameter.add_(direction, alpha=-2.0 * step)
            below = loss()
            parameter.add_(direction, alpha=step)
        wanted = float(above - below) / (2.0 * step)
        got = float((gradient * direction).sum())
        assert got == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_a_row_does_not_depend_on_its_batch_mates_beyond_the_tolerance():
    structure, field = case("cliques", 3)
    dense = field.dense()
    start, observed = _rows(structure, 4, 9)
    term = dense.observed_term(observed)
    together = solve_adaptive(dense, start, term, SIGNS, tolerance=1e-8)
    wild = start.clone()
    wild[:, 1:] *= 30.0
    beside = solve_adaptive(dense, wild, term, SIGNS, tolerance=1e-8)
    alone = solve_adaptive(dense, start[:, :1], term[:, :1], SIGNS, tolerance=1e-8)
    for other in (together, beside):
        torch.testing.assert_close(
            other.state[:, :1], alone.state, atol=1e-6, rtol=1e-6
        )
        torch.testing.assert_close(
            other.log_det[:, :1], alone.log_det, atol=1e-6, rtol=1e-6
        )


def test_a_row_that_cannot_be_solved_is_nan_and_leaves_the_others_alone():
    structure, field = case("scalars", 3)
    dense = field.dense()
    start, observed = _rows(structure, 5, 10)
    term = dense.observed_term(observed)
    clean = solve_adaptive(dense, start, term, SIGNS, tolerance=1e-8)
    broken = start.clone()
    broken[0, 2, 0] = torch.inf
    got = solve_adaptive(dense, broken, term, SIGNS, tolerance=1e-8)
    assert torch.isnan(got.state[0, 2]).all()
    keep = torch.ones(2, 5, dtype=torch.bool)
    keep[0, 2] = False
    torch.testing.assert_close(got.state[keep], clean.state[keep], atol=1e-6, rtol=0)

"""Tests of flows.cnf.solve."""

import torch

from flows.cnf import engine, solve
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.solve import solve_adaptive, solve_fixed_step

from .random_structures import case

SIGNS = torch.tensor([1.0, -1.0]).double()


def _rows(structure, num, seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, num, structure.state_dim, generator=generator).double()
    observed = torch.randn(2, num, 3, generator=generator).double()
    return start, observed


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


def test_work_beyond_what_is_allowed_is_not_done_and_leaves_nan(monkeypatch):
    structure, field = case("scalars", 3)
    dense = field.dense()
    start, observed = _rows(structure, 8, 10)
    term = dense.observed_term(observed)
    done = []
    integrate = solve._integrate

    def counted(field, rows, *rest):
        end, count = integrate(field, rows, *rest)
        done.append(count * len(rows))
        return end, count

    monkeypatch.setattr(solve, "_integrate", counted)
    clean = solve_adaptive(dense, start, term, SIGNS, tolerance=1e-8)
    whole = sum(done)
    for most, is_solved in ((whole // 2, False), (100 * whole, True)):
        done.clear()
        got = solve_adaptive(
            dense, start, term, SIGNS, tolerance=1e-8, most_evaluations=most
        )
        assert 0 < sum(done) < 2 * most
        assert bool(got.state.isfinite().all()) == is_solved
        same = got.state.isfinite()
        torch.testing.assert_close(
            got.state[same], clean.state[same], atol=1e-5, rtol=0
        )

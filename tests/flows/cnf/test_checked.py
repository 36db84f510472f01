"""Tests of flows.cnf.checked against adaptive solves at a much smaller tolerance."""

import pytest
import torch

from flows.cnf import checked
from flows.cnf.checked import CheckedEngine
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.engines import weighing_engine

from .random_structures import CASES, case

ENGINE = CheckedEngine(AdaptiveEngine(1e-8))
EXACT = AdaptiveEngine(1e-10)
SIGNS = torch.tensor([1.0, -1.0]).double()


def rows(structure, num, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, num, structure.state_dim, generator=generator).double()
    observed = torch.randn(2, num, 3, generator=generator).double()
    return scale * start, observed


def steeper(field, factor):
    with torch.no_grad():
        for weight in field.weights:
            weight.mul_(factor)
    return field


@pytest.mark.parametrize("factor", [1.0, 1.5])
@pytest.mark.parametrize("name", CASES)
def test_every_row_is_solved_within_the_error_that_is_stated(name, factor):
    structure, field = case(name, 3)
    steeper(field, factor)
    start, observed = rows(structure, 150, 4)
    got = ENGINE.solve(field, start, observed, SIGNS)
    wanted = EXACT.solve(field, start, observed, SIGNS)
    for one, other in ((got.state, wanted.state), (got.log_det, wanted.log_det)):
        assert one.dtype == torch.float64
        error = (one - other).abs()
        assert float(error.max()) < 3e-4
        assert float(error.median()) < 1e-5


def test_rows_that_steps_do_not_solve_come_from_the_adaptive_engine():
    structure, field = case("vectors", 5)
    steeper(field, 3.0)
    start, observed = rows(structure, 8, 6)
    got = ENGINE.solve(field, start, observed, SIGNS)
    wanted = EXACT.solve(field, start, observed, SIGNS)
    assert got.num_evaluations > 4 * (8 + 16 + 32 + 64)
    torch.testing.assert_close(got.state, wanted.state, atol=1e-3, rtol=0)
    torch.testing.assert_close(got.log_det, wanted.log_det, atol=1e-3, rtol=0)


def test_rows_far_out_are_solved_in_double_precision():
    structure, field = case("vectors", 7)
    start, observed = rows(structure, 5, 8)
    start[:, 2] *= 1e5
    got = ENGINE.solve(field, start, observed, SIGNS)
    for d, sign in enumerate(SIGNS):
        row = (start[d : d + 1, 2:3], observed[d : d + 1, 2:3], sign[None])
        alone = ENGINE.adaptive.solve(field, *row)
        assert torch.equal(got.state[d, 2], alone.state[0, 0])
        assert torch.equal(got.log_det[d, 2], alone.log_det[0, 0])


def test_rows_that_are_no_numbers_stay_none_and_harm_no_others():
    structure, field = case("residual", 9)
    start, observed = rows(structure, 20, 10)
    clean = ENGINE.solve(field, start, observed, SIGNS)
    start[:, 3, 0] = torch.nan
    start[:, 4, 1] = torch.inf
    observed[:, 5, 0] = torch.nan
    got = ENGINE.solve(field, start, observed, SIGNS)
    bad = [3, 4, 5]
    good = [i for i in range(20) if i not in bad]
    assert bool(got.state[:, bad].isnan().any(-1).all())
    assert torch.equal(got.state[:, good], clean.state[:, good])
    assert torch.equal(got.log_det[:, good], clean.log_det[:, good])


def test_no_rows_are_solved():
    structure, field = case("residual", 13)
    start, observed = rows(structure, 0, 14)
    got = ENGINE.solve(field, start, observed, SIGNS)
    assert got.state.shape == start.shape
    assert got.log_det.shape == (2, 0, len(structure.blocks))


def test_no_rows_are_solved_by_adaptive_steps():
    structure, field = case("residual", 13)
    start, observed = rows(structure, 0, 14)
    got = ENGINE.adaptive.solve(field, start, observed, SIGNS)
    assert got.state.shape == start.shape


def test_single_precision_is_refused():
    structure, field = case("residual", 15)
    start, observed = rows(structure, 3, 16)
    with pytest.raises(ValueError, match="expected a float64 flow"):
        ENGINE.solve(field.float(), start.float(), observed.float(), SIGNS.float())


def test_without_the_kernel_rows_are_solved_by_adaptive_steps(monkeypatch):
    structure, field = case("residual", 17)
    start, observed = rows(structure, 3, 18)
    monkeypatch.setattr(checked, "is_usable", lambda: False)
    got = ENGINE.solve(field, start, observed, SIGNS)
    wanted = ENGINE.adaptive.solve(field, start, observed, SIGNS)
    assert torch.equal(got.state, wanted.state)


def test_a_tolerance_that_steps_cannot_keep_is_kept_by_adaptive_steps():
    assert isinstance(weighing_engine(1e-6), CheckedEngine)
    assert weighing_engine(1e-9) == AdaptiveEngine(1e-9)

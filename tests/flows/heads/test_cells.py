"""Tests of flows.heads.cells."""

import math

import pytest
import torch

from flows.heads.cells import Cells, CellTable, cells_of
from flows.model.model import Model

CELLS = (Cells((0, 1, 2, 3)), Cells((-2, 5, 6, 20), has_lower=True, has_upper=True))
BOTH = torch.tensor([0, 1])


def _log_mass(values, category):
    """Log P(value | category) of the second latent."""
    table = CellTable(CELLS)
    which = torch.tensor([1])
    values = torch.tensor([values], dtype=torch.float64)
    return table.log_inside(values, torch.full(values.shape, category), which)[0]


def test_values_lie_in_the_cells_that_hold_them():
    table = CellTable(CELLS)
    values = torch.tensor([[0.0, 1, 2, 2], [-3.0, -2, 5, 20]]).double()
    assert table.category(values, BOTH).tolist() == [[1, 2, 3, 3], [0, 1, 2, 4]]
    assert table.allowed.tolist() == [
        [False, True, True, True, False],
        [True, True, True, True, True],
    ]


def test_values_of_a_cell_have_mass_one_in_all():
    assert float(_log_mass(range(-2, 5), 1).exp().sum()) == pytest.approx(1.0)
    assert float(_log_mass([5], 2).exp()) == pytest.approx(1.0)


@pytest.mark.parametrize("category", [0, 4])
def test_tails_leave_what_is_beyond_by_their_survival_function(category):
    values = range(20, 1020) if category == 4 else range(-3, -1003, -1)
    found = float(_log_mass(values, category).exp().sum())
    assert found == pytest.approx(1.0 - 22 / (22 + 1000))


@pytest.mark.parametrize("category", [0, 1, 4])
def test_shares_of_the_mass_become_values_as_often_as_these_are_likely(category):
    table, count = CellTable(CELLS), 200_000
    share = ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[None]
    which = torch.tensor([1])
    categories = torch.full(share.shape, category)
    drawn = table.values(categories, share, which)
    assert bool((drawn[0].diff() >= 0).all())
    assert bool((table.category(drawn, which) == category).all())
    for value in drawn[0].unique()[-5:] if category == 0 else drawn[0].unique()[:5]:
        expected = math.exp(float(_log_mass([float(value)], category)))
        assert float((drawn == value).double().mean()) == pytest.approx(
            expected, abs=2 / count
        )


def _found(distribution, drawn):
    model = Model.from_program(f"(let [k (sample {distribution})] k)")
    return cells_of(model, "sample0", torch.tensor(drawn, dtype=torch.float64))


def test_finite_supports_have_a_cell_for_each_value():
    assert _found("(flip 0.2)", [0.0]) == Cells((0, 1, 2))
    assert _found("(discrete [0.1 0.2 0.7])", [0.0]) == Cells((0, 1, 2, 3))
    words = _found('(categorical [["a" 0.5] ["b" 0.5]])', [1.0])
    assert words == Cells((0, 1, 2))


def test_counts_have_cells_from_zero_and_a_tail():
    assert _found("(poisson 3)", [2.0, 4.0, 3.0]) == Cells((0, 2, 3, 4, 5), False, True)
    many = _found("(poisson 5000)", [5000.0 + 3 * k for k in range(-500, 500)])
    assert many.edges[0] == 0
    assert 50 < many.count < 70
    assert many.has_upper
    assert not many.has_lower


def test_counts_that_may_be_below_zero_have_a_tail_there_too():
    assert _found("(uniform-discrete -3 3)", [-3.0, 2.0, math.nan]).has_lower

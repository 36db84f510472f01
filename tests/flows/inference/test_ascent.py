"""Tests of flows.inference.ascent: rows that climb together, each for itself."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen

from flows.inference.ascent import climbed


def valley(rows, _):
    """Minus Rosenbrock's function in any dimension; its top is at ones."""
    bend = rows[:, 1:] - rows[:, :-1].square()
    return -(100.0 * bend.square() + (1.0 - rows[:, :-1]).square()).sum(1)


def starts_of(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_a_bent_valley_is_climbed_to_its_top_by_every_row():
    found = climbed(valley, starts_of(20, 2))
    assert bool(found.has_ended.all())
    np.testing.assert_allclose(found.places, 1.0, atol=1e-3)


def test_rows_get_as_high_as_one_that_climbs_alone_by_scipy():
    starts = starts_of(8, 6)
    heights = climbed(valley, starts).heights
    for row, height in zip(starts.numpy(), heights.tolist(), strict=True):
        alone = minimize(rosen, row, method="L-BFGS-B")
        assert height >= -alone.fun - 1e-5


def test_what_a_row_reaches_does_not_depend_on_the_others():
    starts = starts_of(5, 3)
    together = climbed(valley, starts).places
    for row, place in zip(starts, together, strict=True):
        alone = climbed(valley, row[None]).places[0]
        np.testing.assert_allclose(place, alone, rtol=1e-9)


def test_widths_that_differ_by_a_thousand_are_no_hindrance():
    widths = torch.logspace(-1, 2, 10, dtype=torch.float64)
    found = climbed(
        lambda x, _: -(x / widths).square().sum(1), starts_of(6, 10) * widths
    )
    np.testing.assert_allclose((found.places / widths).numpy(), 0.0, atol=1e-2)


def test_a_step_out_of_the_support_is_made_shorter():
    found = climbed(
        lambda x, _: (x.log() - x).sum(1), torch.tensor([[1e-3], [50.0]]).double()
    )
    np.testing.assert_allclose(found.places, 1.0, atol=1e-3)


def test_a_corner_is_climbed_too():
    found = climbed(lambda x, _: -(x - 2.0).abs().sum(1), starts_of(4, 2))
    np.testing.assert_allclose(found.places, 2.0, atol=1e-3)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_row_that_begins_without_density_stays(value):
    def density(rows, _):
        return torch.where(rows[:, 0] < 5.0, -rows.square().sum(1), value)

    found = climbed(density, torch.tensor([[9.0, 1.0], [3.0, 1.0]]).double())
    assert found.has_ended.tolist() == [False, True]
    assert found.places[0].tolist() == [9.0, 1.0]
    np.testing.assert_allclose(found.places[1], 0.0, atol=1e-4)


def test_rows_that_time_did_not_suffice_for_say_so():
    rounds = iter([False, False, True])
    found = climbed(valley, starts_of(3, 4), is_over=lambda: next(rounds))
    assert not bool(found.has_ended.any())
    assert bool((found.heights >= valley(starts_of(3, 4), None)).all())


def test_a_density_that_is_the_same_everywhere_is_not_climbed():
    found = climbed(
        lambda x, _: torch.full((len(x),), -torch.inf).double(), starts_of(3, 2)
    )
    assert not bool(found.has_ended.any())

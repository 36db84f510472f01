"""Tests of flows.learning.ascent, .coordinates, .surface and .errors by one model."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from flows.errors import InferenceError
from flows.learning import errors as errors_module
from flows.learning.ascent import ascend, climb, start
from flows.learning.coordinates import UnitCoordinates
from flows.learning.errors import CURVATURE, SCATTER, UNKNOWN, errors_at
from flows.learning.likelihood import Likelihood, NoLatents
from flows.learning.parted import PartedModel
from flows.learning.surface import Surface

from .programs import (
    COMPONENTS,
    HIERARCHICAL,
    Conjugate,
    hierarchical_log_posterior,
    hierarchical_top,
    model_of,
    rows_of,
)

MODEL = model_of(HIERARCHICAL)
PARTED = PartedModel.of(MODEL, [*COMPONENTS])
COORDINATES = UnitCoordinates.of(PARTED.prior)


def likelihood(num=80, seed=0):
    data = rows_of(MODEL, COMPONENTS, num, seed)
    return Likelihood(PARTED, data)


def last(rounds):
    *_, found = rounds
    return found


def test_coordinates_go_there_and_back_and_are_about_one_unit_wide():
    drawn = PARTED.prior.sample_latents(500, generator=torch.Generator().manual_seed(1))
    places = COORDINATES.place(drawn)
    assert torch.allclose(COORDINATES.values(places), drawn)
    assert bool((places.abs().quantile(0.68, dim=0) < 1.5).all())


def test_the_slope_is_that_of_the_value():
    rows = likelihood(10)
    generator = torch.Generator().manual_seed(0)
    place = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    values = COORDINATES.values(place)
    draws = Conjugate().draw(values, rows.data, 20, generator=generator)
    surface = Surface(rows, COORDINATES, draws)
    found = surface.at(place).slope.numpy()
    numeric = optimize.approx_fprime(
        place.numpy(), lambda p: surface.at(torch.from_numpy(p)).value, 1e-6
    )
    assert np.allclose(found, numeric, rtol=1e-4, atol=1e-3)


def test_the_ascent_finds_the_exact_top_with_its_errors():
    rows = likelihood()
    generator = torch.Generator().manual_seed(0)
    first = start(rows, COORDINATES, Conjugate(), generator=generator)
    found = last(ascend(rows, COORDINATES, Conjugate(), first, generator=generator))
    assert found.is_top
    errors = errors_at(found)
    assert errors.source == CURVATURE
    assert not errors.flat
    deviations = errors.covariance.diagonal().sqrt().numpy()
    data = rows.data.numpy()
    top = hierarchical_top(data)
    gap = COORDINATES.values(found.place).numpy() - top
    assert np.all(np.abs(gap) < 0.5 * deviations)
    noise = errors.noise.diagonal().sqrt().numpy()
    assert np.all(noise < 0.2 * deviations)
    # The curvature of the exact log posterior, by differences.
    steps = 1e-3 * np.eye(3)
    height = lambda v: hierarchical_log_posterior(v, data)  # noqa: E731
    curvature = np.array(
        [
            [
                height(top + a + b)
                - height(top + a - b)
                - height(top - a + b)
                + height(top - a - b)
                for a in steps
            ]
            for b in steps
        ]
    ) / (4e-6)
    exact_deviations = np.sqrt(np.diag(np.linalg.inv(-curvature)))
    assert np.allclose(deviations, exact_deviations, rtol=0.1)


def test_the_start_is_on_the_slope_of_the_highest_top():
    """Towards tau = 0 the density is flat, and some draws make it look high there."""
    rows = likelihood(seed=203)
    data = rows.data.numpy()
    top = hierarchical_log_posterior(hierarchical_top(data), data)
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        place = start(rows, COORDINATES, Conjugate(), generator=generator)
        found = COORDINATES.values(place).numpy()
        assert hierarchical_log_posterior(found, data) > top - 1.0


def test_minibatches_come_near_the_top_of_many_rows():
    rows = likelihood(400)
    generator = torch.Generator().manual_seed(0)
    steps = climb(
        rows, COORDINATES, Conjugate(), torch.zeros(3, dtype=torch.float64), 200,
        generator=generator, is_over=lambda: False,
    )  # fmt: skip
    found = COORDINATES.values(last(steps)).numpy()
    assert np.allclose(found, hierarchical_top(rows.data.numpy()), atol=0.15)


def test_few_rows_are_not_climbed_by_minibatches():
    steps = climb(
        likelihood(20), COORDINATES, Conjugate(), torch.zeros(3, dtype=torch.float64),
        200, generator=torch.Generator(), is_over=lambda: False,
    )  # fmt: skip
    assert not list(steps)


def test_a_top_at_the_edge_is_flat_there():
    model = model_of("(let [s (sample (half-normal 1))] (observe (normal s 1) 0) s)")
    parted = PartedModel.of(model, ["s"])
    rows = Likelihood(parted, torch.full((30, 1), -1.0, dtype=torch.float64))
    coordinates = UnitCoordinates.of(parted.prior)
    generator = torch.Generator().manual_seed(0)
    first = start(rows, coordinates, NoLatents(), generator=generator)
    found = last(ascend(rows, coordinates, NoLatents(), first, generator=generator))
    assert errors_at(found).flat == (0,)


def test_data_that_no_parameters_allow_are_said():
    text = """(let [b (sample (beta 2 2))]
                (observe (uniform-continuous 0 b) 0.1) b)"""
    parted = PartedModel.of(model_of(text), ["b"])
    rows = Likelihood(parted, torch.full((3, 1), 1.5, dtype=torch.float64))
    with pytest.raises(InferenceError, match="no parameters that the prior draws"):
        start(
            rows, UnitCoordinates.of(parted.prior), NoLatents(),
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    assert math.isinf(float(rows.terms(
        torch.tensor([0.5], dtype=torch.float64),
        NoLatents().draw(None, rows.data, 1, generator=None),
    ).log_likelihood[0]))  # fmt: skip


def test_many_parameters_have_errors_that_cost_less(monkeypatch):
    rows = likelihood()
    generator = torch.Generator().manual_seed(0)
    first = start(rows, COORDINATES, Conjugate(), generator=generator)
    found = last(ascend(rows, COORDINATES, Conjugate(), first, generator=generator))
    whole = errors_at(found).covariance.diagonal().sqrt()
    # Three parameters are many now.
    monkeypatch.setattr(errors_module, "_MOST_CURVED", 2)
    assert errors_at(found).source == SCATTER
    monkeypatch.setattr(errors_module, "_ROWS_PER_PARAMETER", 100)
    monkeypatch.setattr(errors_module, "_MOST_DRAWS", 2 * 80 * 3 * 50)
    few = errors_at(found)
    assert few.source == CURVATURE
    deviations = few.covariance.diagonal().sqrt()
    assert not torch.equal(deviations, whole)
    assert torch.allclose(deviations, whole, rtol=0.15)
    monkeypatch.setattr(errors_module, "_MOST_DRAWS", 1)
    none = errors_at(found)
    assert none.source == UNKNOWN
    assert bool(none.covariance.isnan().all())

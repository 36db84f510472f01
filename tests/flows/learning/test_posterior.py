"""Tests of flows.learning.posterior."""

import numpy as np
import pytest
import torch

from flows.learning.ascent import ascend, start
from flows.learning.coordinates import UnitCoordinates
from flows.learning.errors import errors_at
from flows.learning.likelihood import Likelihood, NoLatents
from flows.learning.parted import PartedModel
from flows.learning.posterior import tempered_parameters

from ..inference.targets import result_of
from .programs import (
    COMPONENTS,
    HIERARCHICAL,
    Conjugate,
    hierarchical_log_posterior,
    model_of,
    rows_of,
)


def particles(parted, data, drawing):
    rows, generator = Likelihood(parted, data), torch.Generator().manual_seed(0)
    coordinates = UnitCoordinates.of(parted.prior)
    first = start(rows, coordinates, drawing, generator=generator)
    *_, found = ascend(rows, coordinates, drawing, first, generator=generator)
    errors = errors_at(found)
    return result_of(
        tempered_parameters(found, errors, 400, seed=0, check=lambda: None)
    )


def test_a_conjugate_mean_and_the_evidence_are_found():
    text = "(let [m (sample (normal 0 3))] (observe (normal m 1) 0) m)"
    data = torch.tensor([[0.3], [1.9], [1.1]], dtype=torch.float64)
    found = particles(PartedModel.of(model_of(text), ["m"]), data, NoLatents())
    variance = 1 / (1 / 9 + 3)
    mean = variance * 3.3
    error = float(found.mean_standard_error())
    assert abs(float(found.particles.mean()) - mean) < 5 * error
    assert np.isclose(float(found.particles.sd()), variance**0.5, rtol=0.15)
    covariance = 9 * np.ones((3, 3)) + np.eye(3)
    y = data[:, 0].numpy()
    evidence = -0.5 * (
        y @ np.linalg.solve(covariance, y)
        + np.log(np.linalg.det(2 * np.pi * covariance))
    )
    assert abs(found.log_evidence - evidence) < 5 * found.log_evidence_standard_error


@pytest.mark.slow
def test_variance_components_have_their_posterior_by_quadrature():
    model = model_of(HIERARCHICAL)
    parted = PartedModel.of(model, [*COMPONENTS])
    data = rows_of(model, COMPONENTS, 30, 3)
    found = particles(parted, data, Conjugate(1.05))
    mu, tau, sigma = np.meshgrid(
        np.linspace(-1, 3, 25), np.linspace(0.01, 2.5, 25), np.linspace(0.7, 2.2, 25),
        indexing="ij",
    )  # fmt: skip
    grid = np.stack([mu, tau, sigma], -1).reshape(-1, 3)
    heights = np.array([hierarchical_log_posterior(v, data.numpy()) for v in grid])
    weights = np.exp(heights - heights.max())
    means = weights @ grid / weights.sum()
    gaps = np.abs(found.particles.mean().numpy() - means)
    # A hundredth for the draws of z, which stay the same.
    assert np.all(gaps < 5 * found.mean_standard_error().numpy() + 0.01)

"""Tests of flows.learning.modes."""

import numpy as np
import pytest
import torch

from flows.learning.likelihood import Likelihood
from flows.learning.modes import ModeDrawing, nats_missed
from flows.learning.parted import PartedModel

from .programs import (
    COMPONENTS,
    HIERARCHICAL,
    hierarchical_log_posterior,
    model_of,
    rows_of,
)

TWO_MODES = """
(let [s (sample (half-normal 1))
      z (sample (normal 0 1))
      y (observe (normal (* z z) s) 1.0)]
  z)
"""


def drawn(text, names, values, data, num):
    parted = PartedModel.of(model_of(text), names)
    draws = ModeDrawing(parted).draw(
        values, data, num, generator=torch.Generator().manual_seed(0)
    )
    return parted, draws


def test_normal_rows_have_the_exact_likelihood_within_its_noise():
    model = model_of(HIERARCHICAL)
    data = rows_of(model, COMPONENTS, 50, 0)
    values = torch.tensor([0.5, 0.8, 1.2], dtype=torch.float64)
    parted, draws = drawn(HIERARCHICAL, list(COMPONENTS), values, data, 200)
    found = Likelihood(parted, data).terms(values, draws)
    prior = hierarchical_log_posterior(values.numpy(), np.zeros((0, 4)))
    exact = [
        hierarchical_log_posterior(values.numpy(), row[None]) - prior
        for row in data.numpy()
    ]
    assert np.allclose(found.log_likelihood.numpy(), exact, atol=0.1)
    assert float(found.ess.min()) > 0.85 * 200


@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_both_modes_of_a_row_are_drawn(scale):
    values = torch.tensor([scale], dtype=torch.float64)
    data = torch.tensor([[0.5], [2.0], [4.0]], dtype=torch.float64)
    parted, draws = drawn(TWO_MODES, ["s"], values, data, 4000)
    found = Likelihood(parted, data).terms(values, draws)
    grid = np.linspace(-6, 6, 200_001)
    joint = -0.5 * grid**2 - 0.5 * ((data.numpy() - grid**2) / scale) ** 2
    exact = np.log(np.exp(joint).sum(1) * (grid[1] - grid[0]) / (2 * np.pi * scale))
    assert np.allclose(found.log_likelihood.numpy(), exact, atol=0.1)
    shares = (draws.latents[..., 0] > 0).double().mean(0)
    assert torch.all((shares > 0.1) & (shares < 0.9))


def test_densities_of_draws_have_mass_one():
    values = torch.tensor([0.3], dtype=torch.float64)
    data = torch.tensor([[2.0]], dtype=torch.float64)
    _, draws = drawn(TWO_MODES, ["s"], values, data, 20_000)
    latents, density = draws.latents[:, 0, 0], draws.log_prob[:, 0].exp()
    order = latents.argsort()
    mass = torch.trapezoid(density[order], latents[order])
    assert float(mass) == pytest.approx(1.0, abs=0.01)


def test_a_plain_behind_the_mode_is_drawn_too():
    """Where tanh saturates nothing but the prior bounds the latent."""
    text = """
        (let [s (sample (half-normal 1))
              z (sample (normal 0 1))]
          (observe (normal (tanh (* 4 z)) s) 0.9)
          z)"""
    values = torch.tensor([0.08], dtype=torch.float64)
    data = torch.tensor([[0.8], [0.9], [1.0]], dtype=torch.float64)
    parted, draws = drawn(text, ["s"], values, data, 400)
    found = Likelihood(parted, data).terms(values, draws)
    grid = np.linspace(-8, 8, 100_001)
    gaps = (data.numpy() - np.tanh(4 * grid)) / 0.08
    joint = np.exp(-0.5 * (grid**2 + gaps**2)) / (2 * np.pi * 0.08)
    exact = np.log(joint.sum(1) * (grid[1] - grid[0]))
    assert np.allclose(found.log_likelihood, exact, atol=0.15)
    assert float(found.ess.min()) > 0.4 * 400


def test_a_row_without_a_density_has_draws_of_no_weight():
    values = torch.tensor([0.3], dtype=torch.float64)
    data = torch.tensor([[torch.nan], [1.0]], dtype=torch.float64)
    parted, draws = drawn(TWO_MODES, ["s"], values, data, 50)
    found = Likelihood(parted, data).log_weights(values, data, draws)
    assert bool(torch.isfinite(found[:, 1]).all())
    assert not bool((found[:, 0] > -torch.inf).any())


def test_modes_that_few_starts_miss_are_told():
    """Ten latents of a row have a thousand modes of the same mass."""
    many = model_of("""
        (let [s (sample (half-normal 1))
              z (foreach 10 [] (sample (normal 0 1)))]
          (foreach 10 [v z y [1 2 3 4 5 6 7 8 9 10]]
            (observe (normal (* v v) s) y)))""")
    values = torch.tensor([0.1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    data = rows_of(many, {"s": 0.1}, 4, 0)
    likelihood = Likelihood(PartedModel.of(many, ["s"]), data)
    found = nats_missed(likelihood, values, generator=generator)
    assert found > 1.0
    two = PartedModel.of(model_of(TWO_MODES), ["s"])
    data = torch.tensor([[0.5], [2.0], [4.0]], dtype=torch.float64)
    values = torch.tensor([0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    assert nats_missed(Likelihood(two, data), values, generator=generator) < 0.1

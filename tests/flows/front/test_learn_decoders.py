"""Tests of `learn` on decoders: many weights, and the maximum by quadrature."""

import numpy as np
import pytest
import torch

import flows

from ..learning.decoders import best_weights, linear_decoder, log_posterior
from ..learning.programs import rows_of

PARAMETERS = ["weight", "bias"]


def learned_values(learned):
    found = learned.parameters.values()
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    return values, np.array([each.standard_error for each in found])


def test_a_decoder_is_learned_from_a_table_as_by_quadrature(tmp_path):
    model = flows.Model.from_program(linear_decoder(5))
    truth = [2.0, -1.5, 0.5, 1.0, -2.0, 0.3, -0.2, 0.8, -1.0, 0.0]
    given = {f"weight[{n}]": truth[n] for n in range(5)}
    given |= {f"bias[{n}]": truth[5 + n] for n in range(5)}
    pixels = rows_of(model, given, 30, 0)
    table = tmp_path / "rows.csv"
    names = ",".join(f"pixel[{n}]" for n in range(5))
    lines = [",".join(f"{value:.0f}" for value in row) for row in pixels.tolist()]
    table.write_text("\n".join([names, *lines]))
    learned = flows.learn(model, table, PARAMETERS, seed=0)
    assert learned.is_trusted
    assert learned.errors_from == "observed information"
    values, errors = learned_values(learned)
    top, height = best_weights(pixels, values)
    assert np.all((values - top).abs().numpy() < 0.5 * errors)
    assert float(log_posterior(values, pixels)) > height - 0.1
    found = learned.log_likelihood + learned.log_prior
    assert found == pytest.approx(float(log_posterior(values, pixels)), abs=0.2)
    # The curvature by automatic differentiation of the quadrature.
    hessian = torch.autograd.functional.hessian(
        lambda each: log_posterior(each, pixels), top
    )
    exact = torch.linalg.inv(-hessian).diagonal().sqrt()
    assert np.allclose(errors, exact, rtol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_weights_of_digits_are_as_high_as_by_quadrature(seed):
    """Of several places that the search by quadrature may begin at, the best counts."""
    datasets = pytest.importorskip("sklearn.datasets")
    images = datasets.load_digits().images.reshape(-1, 4, 2, 4, 2).mean((2, 4))
    order = np.random.default_rng(seed).permutation(len(images))[:100]
    black = (images[order].reshape(-1, 16) > 7.5).astype(float)
    pixels = torch.from_numpy(black)
    model = flows.Model.from_program(linear_decoder(16))
    learned = flows.learn(model, pixels, PARAMETERS, seed=seed)
    assert learned.is_trusted
    values, errors = learned_values(learned)
    near, _ = best_weights(pixels, values)
    assert np.all((values - near).abs().numpy() < 0.5 * errors)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randn(10, 32, dtype=torch.float64, generator=generator)
    height = max(best_weights(pixels, first)[1] for first in starts)
    assert float(log_posterior(values, pixels)) > height - 0.05 * len(pixels)

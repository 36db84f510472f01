"""Tests of flows.flow.directions, on draws whose curvature is known in closed form."""

import math

import numpy as np
import pytest
import torch

from flows.flow.directions import principal_forms, whitening

DRAWS = 20_000


def _drawn(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def _forms(white, latents, size=12, num=6):
    generator = torch.Generator().manual_seed(1)
    return principal_forms(white, latents, size, num, generator)


def _matrices(forms):
    """Return the matrix of each form."""
    a, w = forms.directions, forms.weights
    return torch.einsum("id,dk,jd->kij", a, w, a)


def test_whitened_draws_have_covariance_one():
    mixed = _drawn(DRAWS, 4) @ _drawn(4, 4, seed=2)
    white = mixed @ whitening(mixed)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4).double())


def test_forms_are_made_of_directions_of_length_one_and_shares():
    white = _drawn(DRAWS, 5)
    forms = _forms(white, white[:, :1].square() + _drawn(DRAWS, 1, seed=3))
    assert forms.directions.shape == (5, 12)
    assert forms.weights.shape == (12, 6)
    torch.testing.assert_close(
        forms.directions.norm(dim=0), torch.ones(12, dtype=torch.float64)
    )
    torch.testing.assert_close(forms.weights.sum(0), torch.ones(6, dtype=torch.float64))
    assert (forms.weights > 0).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_latent_that_is_a_square_gives_its_own_direction(sign):
    """E[u u^T (c . u)^2] - I = 2 c c^T for normal u and |c| = 1."""
    white = _drawn(DRAWS, 5)
    along = torch.tensor([0.6, 0.0, -0.8, 0.0, 0.0], dtype=torch.float64)
    latent = sign * (white @ along).square() + 3.0 * white[:, 1]
    matrices = _matrices(_forms(white, latent[:, None]))
    exact = torch.outer(along, along)
    assert float((matrices[0 if sign > 0 else 1] - exact).abs().max()) < 0.05


def test_a_product_of_two_latents_bends_where_neither_does():
    """Signs that no datum tells: u = +- load f, seen in the loads' product alone."""
    loads, factor = _drawn(DRAWS, 2), _drawn(DRAWS, 1, seed=1)
    data = loads * factor + 0.1 * _drawn(DRAWS, 2, seed=2)
    white = data @ whitening(data)
    matrices = _matrices(_forms(white, loads, num=12))
    product = (loads[:, 0] * loads[:, 1]).numpy()
    told = [
        abs(np.corrcoef(product, np.einsum("ni,ij,nj->n", white, m, white))[0, 1])
        for m in matrices
    ]
    either = [abs(np.corrcoef(product, white[:, i].numpy())[0, 1]) for i in range(2)]
    assert max(either) < 0.05
    assert max(told) > 0.3


def test_scales_of_two_parts_of_data_each_have_a_form():
    """Noise of 3 data and a spread of 5, rotated: the log of its square tells each."""
    scales = torch.exp(0.7 * _drawn(DRAWS, 2))
    parts = _drawn(DRAWS, 8, seed=1)
    apart = torch.cat([parts[:, :3] * scales[:, :1], parts[:, 3:] * scales[:, 1:]], 1)
    turn = torch.linalg.qr(_drawn(8, 8, seed=2))[0]
    mixed = apart @ turn
    white = mixed @ whitening(mixed)
    forms = _forms(white, scales.log(), size=16, num=8)
    values = (0.5 * (white @ forms.directions).square() @ forms.weights).log().numpy()
    for place, own in ((0, slice(0, 3)), (1, slice(3, 8))):
        best = np.log(np.square(apart[:, own].numpy()).sum(1))
        truth = scales[:, place].log().numpy()
        told = max(abs(np.corrcoef(truth, value)[0, 1]) for value in values.T)
        assert told > 0.97 * np.corrcoef(truth, best)[0, 1]


def test_where_nothing_bends_each_number_is_in_some_form():
    white = _drawn(DRAWS, 6)
    matrices = _matrices(_forms(white, white @ _drawn(6, 2, seed=1)))
    assert float(matrices.sum(0).diagonal().min()) > 0.3


def test_more_latents_than_are_looked_at_and_one_number():
    white = _drawn(500, 1)
    forms = _forms(white, _drawn(500, 50, seed=4))
    assert forms.weights.isfinite().all()
    assert math.isclose(float(forms.directions.abs().min()), 1.0)

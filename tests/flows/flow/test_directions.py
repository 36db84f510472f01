"""Tests of flows.flow.directions, on draws whose curvature is known in closed form."""

import numpy as np
import pytest
import torch

from flows.flow.directions import principal_forms, whitening

DRAWS = 20_000


def _drawn(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def _whitening(rows):
    return whitening(torch.cov(rows.T), len(rows))


def _forms(white, latents, size=12, num=6):
    generator = torch.Generator().manual_seed(1)
    return principal_forms(white, latents, size, num, generator)


def _matrices(forms):
    """Return the matrix of each form."""
    a, w = forms.directions, forms.weights
    return torch.einsum("id,dk,jd->kij", a, w, a)


def test_whitened_draws_have_covariance_one():
    mixed = _drawn(DRAWS, 4) @ _drawn(4, 4, seed=2)
    white = mixed @ _whitening(mixed)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4).double())


def test_what_few_draws_cannot_tell_from_constant_is_not_blown_up():
    mixed = _drawn(40, 4)
    mixed[:, 3] = mixed[:, 2] + 1e-9 * _drawn(40, seed=3)
    assert float(_whitening(mixed).abs().max()) < 40 / 4


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
    assert float((matrices - exact).abs().amax((1, 2)).min()) < 0.05


def test_a_product_of_two_latents_bends_where_neither_does():
    """Signs that no datum tells: u = +- load f, seen in the loads' product alone."""
    loads, factor = _drawn(DRAWS, 2), _drawn(DRAWS, 1, seed=1)
    data = loads * factor + 0.1 * _drawn(DRAWS, 2, seed=2)
    white = data @ _whitening(data)
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
    white = mixed @ _whitening(mixed)
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


def test_effects_do_not_bend_though_their_spread_is_that_of_the_data():
    """Of 8 groups of 3 data, effects are told linearly, in proportion to tau alone."""
    tau, noise = (torch.exp(0.7 * _drawn(10_000, 1, seed=k)) for k in (1, 2))
    effects = tau * _drawn(10_000, 8, seed=3)
    data = effects.repeat_interleave(3, 1) + noise * _drawn(10_000, 24, seed=4)
    white = data @ _whitening(data)
    latents = torch.cat([effects, tau.log(), noise.log()], 1)
    for order in (latents, latents.flip(1)):
        forms = _forms(white, order, size=96, num=12)
        values = (white @ forms.directions).square() @ forms.weights
        groups = data.unflatten(1, (8, 3))
        for scale, sufficient in (
            (tau, groups.mean(2).square().sum(1)),
            (noise, (groups - groups.mean(2, keepdim=True)).square().sum((1, 2))),
        ):
            truth, best = scale.log()[:, 0].numpy(), sufficient.log().numpy()
            told = max(abs(np.corrcoef(truth, v)[0, 1]) for v in values.log().numpy().T)
            assert told > 0.95 * np.corrcoef(truth, best)[0, 1]


def test_what_is_linear_in_skewed_data_does_not_bend():
    """E[u u^T u_i] is not 0 for skewed u, so a latent is taken less what is linear."""
    skewed = _drawn(DRAWS, 4, seed=6).square() - 1.0
    white = skewed @ _whitening(skewed)
    bend = white[:, 2].square()
    latent = 5.0 * white[:, 0] + 0.5 * (bend - bend.mean())
    matrices = _matrices(_forms(white, latent[:, None]))
    assert float(matrices[0][2, 2]) > 0.7


def test_few_forms_follow_a_latent_and_many_latents_are_not_too_many():
    white = _drawn(DRAWS, 6)
    latent = white[:, :1].square()
    matrices = _matrices(_forms(white, latent, size=8, num=1))
    assert float(matrices[0][0, 0]) > 0.9
    many = torch.cat([_drawn(DRAWS, 36, seed=8), latent], 1)
    last = _matrices(_forms(white, many))
    assert float(last[:, 0, 0].max()) < 0.9  # the 37th is not looked at
    assert last.isfinite().all()

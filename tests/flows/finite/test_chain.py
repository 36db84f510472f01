"""Tests of flows.finite.chain, planar and radial, by the same laws.

The oracle is the Jacobian by automatic differentiation.
"""

import pytest
import torch

from flows.finite.chain import LAYERS, Chain

SIZES = (1, 2, 5)


def _case(layer, size, spread, rows=40):
    """Points, and numbers far from where training starts."""
    generator = torch.Generator().manual_seed(size)
    points = 3.0 * torch.randn(rows, size, generator=generator).double()
    noise = torch.randn(rows, layer.width(size), generator=generator).double()
    noise[:, size : 2 * size] *= 0.2  # logarithms of scales
    return points, spread * noise


def _one_layer(name, numbers, point):
    unscaled = torch.zeros(2 * len(point), dtype=torch.float64)
    return Chain(name, 1).to_latent(point, torch.cat([unscaled, numbers]))[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_log_determinant_is_that_of_the_jacobian(name, size):
    layer = Chain(name, 1)
    points, numbers = _case(layer, size, 2.0)
    _, log_det = layer.to_latent(points, numbers)
    for row in range(len(points)):
        jacobian = torch.autograd.functional.jacobian(
            lambda z, given=numbers[row]: layer.to_latent(z, given)[0], points[row]
        )
        sign, wanted = torch.linalg.slogdet(jacobian)
        assert float(sign) == 1.0
        assert float(log_det[row]) == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back_is_the_same_point_and_the_negative_log_determinant(name, size):
    layer = Chain(name, 1)
    points, numbers = _case(layer, size, 2.0, rows=2000)
    there, log_det = layer.to_latent(points, numbers)
    back, negative = layer.to_base(there, numbers)
    # where a layer squeezes, a rounding of where it ends is more of where it starts
    slack = 1e-10 * (1.0 + (-log_det).exp().unsqueeze(-1) * 1e-3)
    assert bool(((back - points).abs() <= slack * (1.0 + there.abs().max())).all())
    torch.testing.assert_close(negative, -log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_gradient_of_the_inverse_is_that_of_finite_differences(name, size):
    layer = Chain(name, 1)
    points, numbers = _case(layer, size, 0.7, rows=4)

    def inverse(latent, given):
        back, log_det = layer.to_base(latent, given)
        return torch.cat([back, log_det.unsqueeze(-1)], -1)

    arguments = points.requires_grad_(), numbers.requires_grad_()
    assert torch.autograd.gradcheck(inverse, arguments, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_chain_of_layers_is_inverted_to_ten_digits(name):
    chain = Chain(name, 32)
    generator = torch.Generator().manual_seed(0)
    numbers = chain.first(2, generator).double().expand(500, -1)
    numbers = numbers + 0.3 * torch.randn(numbers.shape, generator=generator).double()
    points = torch.randn(500, 2, generator=generator).double()
    there, log_det = chain.to_latent(points, numbers)
    back, negative = chain.to_base(there, numbers)
    torch.testing.assert_close(back, points, rtol=0, atol=1e-10)
    torch.testing.assert_close(negative, -log_det, rtol=0, atol=1e-9)


def test_planar_layer_is_that_of_the_definition():
    numbers = torch.tensor([0.3, -0.2, 1.0, 2.0, 0.5], dtype=torch.float64)
    point = torch.tensor([0.4, 0.1], dtype=torch.float64)
    u, w, b = numbers[:2], numbers[2:4], numbers[4]
    inner = w @ u
    u = u + (-1.0 + torch.log1p(inner.exp()) - inner) * w / (w @ w)
    wanted = point + u * torch.tanh(w @ point + b)
    torch.testing.assert_close(_one_layer("planar", numbers, point), wanted)


def test_radial_layer_is_that_of_the_definition():
    numbers = torch.tensor([0.3, -0.2, 0.1, 1.3], dtype=torch.float64)
    point = torch.tensor([0.4, 0.1], dtype=torch.float64)
    centre = numbers[:2]
    alpha, total = torch.log1p(numbers[2:].exp())
    beta = total - alpha
    r = (point - centre).norm()
    wanted = point + beta / (alpha + r) * (point - centre)
    torch.testing.assert_close(_one_layer("radial", numbers, point), wanted)

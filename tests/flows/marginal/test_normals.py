"""Tests of flows.marginal.normals."""

import pytest
import torch
from torch.distributions import Normal

from flows.marginal.normals import normals


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 4, 1), (3, 1, 5), (3, 1, 5)],
        [(1, 4, 5), (3, 1, 1), (1, 1, 5)],
        [(1, 4, 1), (1, 1, 5), (3, 1, 1)],
    ],
)
@pytest.mark.parametrize("wanted", [(1, 1, 1), (0, 1, 0), (0, 0, 1)])
def test_densities_and_gradients_are_those_of_a_normal(shapes, wanted):
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]
    given[2] = given[2].exp()
    for part, is_wanted in zip(given, wanted, strict=True):
        part.requires_grad_(bool(is_wanted))
    found, expected = normals(*given), Normal(*given[1:]).log_prob(given[0])
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    parts = [part for part in given if part.requires_grad]
    for slope, other in zip(
        torch.autograd.grad((found * weights).sum(), parts),
        torch.autograd.grad((expected * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(slope, other)


def test_a_scale_without_meaning_has_no_density():
    x = torch.zeros(1, 3, 1, dtype=torch.float64)
    scale = torch.tensor([-1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1)
    assert bool(torch.isnan(normals(x, x[:, :1], scale)).all())

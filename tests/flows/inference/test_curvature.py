"""Tests of flows.inference.curvature."""

import torch

from flows.inference.curvature import curvature


def matrices(num=4, size=3):
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(num, size, size, generator=generator, dtype=torch.float64)
    return roots @ roots.mT + torch.eye(size, dtype=torch.float64)


def test_curvature_of_normals_is_their_precision():
    wanted = matrices()

    def density(places, rows):
        return -0.5 * torch.einsum("ri,rij,rj->r", places, wanted[rows], places)

    places = torch.randn(4, 3, dtype=torch.float64)
    found = curvature(density, places)
    built = found.vectors @ torch.diag_embed(found.scales) @ found.vectors.mT
    assert torch.allclose(built, wanted, atol=1e-6)


def test_white_coordinates_have_the_curvature_as_their_metric():
    wanted = matrices()

    def density(places, rows):
        return -0.5 * torch.einsum("ri,rij,rj->r", places, wanted[rows], places)

    found = curvature(density, torch.zeros(4, 3, dtype=torch.float64))
    gaps = torch.randn(4, 3, dtype=torch.float64)
    z = found.whitened(gaps)
    assert torch.allclose(z.square().sum(-1), -2 * density(gaps, torch.arange(4)))
    assert torch.allclose(found.unwhitened(z), gaps)
    assert torch.allclose(found.inverse, torch.linalg.inv(wanted), atol=1e-6)


def test_a_direction_that_does_not_fall_is_as_wide_as_the_flattest_that_does():
    def density(places, _):
        return -2.0 * places[:, 0].square() + 0.5 * places[:, 1].square()

    found = curvature(density, torch.zeros(1, 2, dtype=torch.float64))
    assert torch.allclose(
        found.scales.sort().values, torch.tensor([[1.0, 4.0]]).double()
    )


def test_a_place_without_slopes_has_no_curvature():
    def density(places, _):
        return places.sum(1) * torch.nan

    found = curvature(density, torch.zeros(2, 2, dtype=torch.float64))
    assert bool(found.scales.isnan().all())

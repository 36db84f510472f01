"""Tests of flows.structured_gaussian.sites, against factors written out."""

import numpy as np
import pytest
import torch

from flows.flow.potentials import Potential
from flows.structured_gaussian.cliques import plan_of
from flows.structured_gaussian.sites import Sites, site_lengths

PLAN = plan_of(3, [(0, 2), (1, 2)])
OFFSETS = [(0, 0), (9, 3)]


def sites_of(*potentials):
    return Sites(
        potentials,
        [0, 1, 2],
        PLAN,
        OFFSETS,
        hidden=4,
        layers=1,
        generator=torch.Generator().manual_seed(0),
    )


def quadratic(sites, observed, scaled):
    """-1/2 v F v + h v of what the potentials add, of each row of data."""
    rows = sites.rows(observed, torch.zeros(3), torch.ones(3))
    precision = torch.zeros(len(rows.precision), 9).double()
    precision = precision.index_add(-1, sites.entries, rows.precision)
    linear = torch.zeros(len(observed), 3).double()
    linear = linear.index_add(-1, sites.columns, rows.linear)
    # the only clique with parents holds all columns, the last sampled first
    v = scaled[[2, 1, 0]]
    return -0.5 * (v @ precision.view(-1, 3, 3) @ v) + linear @ v


def test_plan_of_these_tests_is_one_clique():
    assert PLAN.batches[0].own == ((2, 1, 0),)


def test_exact_potential_is_the_square_of_its_residual():
    # u = 0.5 + 2 z0 - z2 + x z2
    sites = sites_of(Potential((0, 2), (0,), (0.5, 0, 2, 0, -1, 1), 0, ""))
    z = torch.tensor([0.3, 0.1, -0.7]).double()
    zero = torch.zeros(3).double()
    for x in (0.0, 1.7):
        data = torch.tensor([[x]]).double()
        found = quadratic(sites, data, z) - quadratic(sites, data, zero)
        u = 0.5 + 2 * 0.3 + 0.7 - x * 0.7
        assert float(found) == pytest.approx(-0.5 * u**2 + 0.5 * 0.25)


def test_scaled_latents_give_the_same_density():
    sites = sites_of(Potential((0, 2), (0,), (0.5, 0, 2, 0, -1, 1), 0, ""))
    data = torch.tensor([[1.7]]).double()
    shift, scale = torch.tensor([0.5, 0.0, -1.0]), torch.tensor([2.0, 1.0, 0.5])
    z = torch.tensor([0.3, 0.1, -0.7]).double()
    rows = sites.rows(data, shift, scale)
    v = ((z - shift) / scale)[[2, 0]]
    found = -0.5 * v @ rows.precision.view(2, 2).flip(0, 1) @ v
    found = found + rows.linear.flip(-1)[0] @ v
    u, start = 0.5 + 2 * 0.3 + 0.7 - 1.7 * 0.7, 0.5 + 2 * 0.5 + 1.0 - 1.7
    assert float(found) == pytest.approx(-0.5 * u**2 + 0.5 * start**2)


def learned():
    return sites_of(
        Potential((0, 2), (0,), (0.0, 0, 1, 0, 1, 0), 0, "link"),
        Potential((1, 2), (1,), (0.0, 0, 1, 0, -1, 0), 0, "link"),
    )


def test_learned_potentials_are_of_the_predictor_alone_and_never_negative():
    sites = learned()
    with torch.no_grad():
        for parameter in sites.parameters():
            parameter.add_(torch.randn(parameter.shape))
    rows = sites.rows(torch.randn(5, 2).double(), torch.zeros(3), torch.ones(3))
    precision = rows.precision.detach().view(5, 2, 2, 2)
    roots = torch.linalg.eigvalsh(precision)
    assert bool((roots[..., 1] > 0).all())
    assert float(roots[..., 0].abs().max()) < 1e-10 * float(roots.max())


def test_first_potential_is_the_regression_of_draws():
    generator = np.random.default_rng(0)
    z = generator.normal(size=(4000, 3))
    noise = generator.normal(size=(4000, 2))
    x = np.stack([z[:, 0] + z[:, 2], z[:, 1] - z[:, 2]], -1) * 3 + 1 + noise * 0.5
    sites = learned()
    with torch.no_grad():
        sites.numbers.weights[-1].zero_()
    sites.fit(torch.tensor(x), torch.tensor(z))
    sites.requires_grad_(False)
    data = torch.tensor([[2.0, 4.0]]).double()
    rows = sites.rows(data, torch.zeros(3), torch.ones(3))
    # x ~ N(3 u + 1, 0.5) says of u: precision 9 / 0.25, linear term 3 (x - 1) / 0.25
    one, two = rows.precision.view(2, 4).tolist()
    assert one == pytest.approx([36, 36, 36, 36], rel=0.06)
    assert two == pytest.approx([36, -36, -36, 36], rel=0.06)
    linear = rows.linear.view(4).tolist()
    assert linear == pytest.approx([12, 12, 36, -36], rel=0.06)


def test_lengths_are_those_of_the_tensors():
    potentials = [Potential((0, 2), (0,), (0.0, 0, 1, 0, 1, 0), 0, "link")]
    state = sites_of(*potentials).state_dict()
    for name, length in site_lengths(potentials, 4, 1).items():
        assert state[name].numel() == length


def test_data_with_heavy_tails_are_read_by_their_logarithm():
    generator = np.random.default_rng(0)
    z = generator.normal(size=(4000, 3))
    x = np.exp(np.stack([2 * z[:, 0], 0.1 * z[:, 1]], -1))
    for column, is_heavy in ((0, True), (1, False)):
        potential = Potential((0, 2), (column,), (0.0, 0, 1, 0, 1, 0), 0, "link")
        sites = sites_of(potential)
        sites.fit(torch.tensor(x), torch.tensor(z))
        assert bool(sites.data_bend[0]) == is_heavy
        far = torch.full((1, 2), 1e6).double()
        rows = sites.rows(far, torch.zeros(3), torch.ones(3))
        assert (float(rows.linear.detach().abs().max()) < 1e3) == is_heavy

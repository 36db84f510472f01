"""Tests of flows.flow.normalisation."""

import math

import pytest
import torch

from flows.flow.normalisation import Normalisation, widen
from flows.flow.structure import StateBlock, Structure
from tests.flows.cnf.models import Circuit, gaussian_tree, state_space


def _fitted(model, structure, num=20_000):
    normalisation = Normalisation(structure).double()
    draws = model.sample(num, generator=torch.Generator().manual_seed(0))
    active = normalisation.fit(draws.latents, draws.observed)
    return normalisation, active


@pytest.mark.parametrize("make", [state_space, gaussian_tree])
def test_linear_gaussian_nodes_get_their_exact_conditionals(make):
    model, structure = make()
    normalisation, active = _fitted(model, structure)
    assert set(active) == set(structure.names)
    x = model.sample(1, generator=torch.Generator().manual_seed(1)).observed
    affine = normalisation.affine(normalisation.normalise_observed(x))
    for position, block in enumerate(structure.blocks):
        column = block.free_columns[0]
        parents = [structure.blocks[j].free_columns[0] for j in block.latent_parents]
        given = parents + [model.num_latents + c for c in block.observed_columns]
        _, _, scale = model.conditional(column, given)
        got = affine.scale[position] * affine.residual_scale[position]
        # 20,000 draws give a standard deviation to 0.5 % (one standard error)
        assert float(got) == pytest.approx(float(scale), rel=0.025)


def test_there_and_back_is_the_identity_and_log_det_that_of_the_jacobian():
    model, structure = state_space(5)
    normalisation, _ = _fitted(model, structure)
    draws = model.sample(3, generator=torch.Generator().manual_seed(2))
    affine = normalisation.affine(normalisation.normalise_observed(draws.observed))
    state = draws.latents[:, list(structure.state_order)]
    back = affine.from_residual(affine.to_residual(state))
    torch.testing.assert_close(back, state, atol=1e-10, rtol=0)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: affine.to_residual(z).sum(0), state
    )[:, 0]
    assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(
        float(affine.log_det.sum()), abs=1e-9
    )
    assert (torch.triu(jacobian, 1) == 0).all()


def test_nodes_of_the_circuit_that_hide_what_children_need_stay_as_they_are():
    structure = Circuit.structure(1)
    _, active = _fitted(Circuit(), structure)
    # z3 given x0 is sharp and nearly linear, but z2 reads z3 and not x0
    assert "z3" not in active
    assert "z5" not in active


def test_column_without_variance_keeps_scale_one_and_heavy_tails_use_quartiles():
    structure = Structure(
        (StateBlock("u", (0,), 0, (), ()), StateBlock("v", (1,), 0, (), ())), 1
    )
    generator = torch.Generator().manual_seed(3)
    uniform = torch.rand(20_000, generator=generator, dtype=torch.float64)
    cauchy = torch.tan(torch.pi * (uniform - 0.5)) * 3.0 + 7.0
    free = torch.stack([torch.full_like(cauchy, 4.0), cauchy], -1)
    normalisation = Normalisation(structure).double()
    normalisation.fit(free, cauchy[:, None])
    assert float(normalisation.shift[0]) == pytest.approx(4.0)
    assert float(normalisation.scale[0]) == 1.0
    # quartiles of the distribution: 7 -+ 3; a normal's are 0.674 sd
    assert float(normalisation.shift[1]) == pytest.approx(7.0, abs=0.2)
    assert float(normalisation.scale[1]) == pytest.approx(3 / 0.6745, rel=0.05)
    assert float(normalisation.observed_scale[0]) == pytest.approx(4.45, rel=0.05)


def test_draws_that_are_not_finite_are_refused():
    structure = Structure((StateBlock("u", (0,), 0, (), ()),), 0)
    free = torch.zeros(5, 1).double()
    free[3] = torch.nan
    with pytest.raises(ValueError, match="got 1 of 5 rows"):
        Normalisation(structure).fit(free, torch.zeros(5, 0))


def test_widened_circuit_lets_children_of_sharp_nodes_read_what_those_read():
    structure = Circuit.structure(1)
    draws = Circuit().sample(20_000, generator=torch.Generator().manual_seed(0))
    wide = widen(structure, draws.latents, draws.observed)
    assert wide.reach == structure.reach
    assert wide.observed_reach == structure.observed_reach
    position = {name: i for i, name in enumerate(structure.names)}
    for name in ("z2", "z1", "z0", "z4"):
        block = wide.blocks[position[name]]
        assert {position["z5"], position["z3"]} <= set(block.latent_parents)
        assert 0 in block.observed_columns
    _, active = _fitted(Circuit(), wide)
    assert "z3" in active


def test_linear_gaussian_models_need_no_widening():
    for make in (state_space, gaussian_tree):
        model, structure = make()
        draws = model.sample(20_000, generator=torch.Generator().manual_seed(0))
        assert widen(structure, draws.latents, draws.observed) == structure


def test_sharp_node_whose_latent_parent_a_child_does_not_read_stays_as_it_is():
    # u ~ N(0, 1), v ~ N(u, 0.05), w ~ N(v^2, 0.1): w reads v only
    generator = torch.Generator().manual_seed(0)
    u, e, d = torch.randn(3, 20_000, generator=generator, dtype=torch.float64)
    v = u + 0.05 * e
    free = torch.stack([u, v, v.square() + 0.1 * d], -1)
    structure = Structure(
        (
            StateBlock("u", (0,), 0, (), ()),
            StateBlock("v", (1,), 0, (0,), ()),
            StateBlock("w", (2,), 0, (1,), ()),
        ),
        0,
    )
    assert "v" not in Normalisation(structure).double().fit(free, free[:, :0])
    wide = widen(structure, free, free[:, :0])
    assert wide.blocks[2].latent_parents == (0, 1)
    assert "v" in Normalisation(wide).double().fit(free, free[:, :0])


def test_a_flow_of_one_data_set_takes_every_correlation_that_is_not_sharp_too():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(20_000, 2, generator=generator, dtype=torch.float64)
    free = torch.stack([noise[:, 0], 0.5 * noise[:, 0] + noise[:, 1]], -1)
    data = torch.ones(len(free), 1, dtype=torch.float64)
    for seen, expected in (((), ("a", "b")), ((0,), ())):
        blocks = (
            StateBlock("a", (0,), 0, (), seen),
            StateBlock("b", (1,), 0, (0,), seen),
        )
        normalisation = Normalisation(Structure(blocks, 1)).double()
        assert normalisation.fit(free, data) == expected


def test_data_of_heavy_tails_grow_by_their_logarithm_far_out():
    structure = Structure((StateBlock("a", (0,), 0, (), (0, 1)),), 2)
    generator = torch.Generator().manual_seed(0)
    light = torch.randn(5000, 1, generator=generator, dtype=torch.float64)
    other = torch.randn(5000, 1, generator=generator, dtype=torch.float64)
    ratio = other / torch.randn(5000, 1, generator=generator, dtype=torch.float64)
    made, plain = (
        Normalisation(structure, everywhere=True, log_beyond=beyond).double()
        for beyond in (10.0, 0.0)
    )
    for each in (made, plain):
        each.fit(light, torch.cat([light, 3.0 * ratio], 1))
    assert made.observed_beyond.tolist() == [0.0, 10.0]
    rows = torch.tensor([[40.0, 900.0], [-40.0, -900.0], [1.0, 5.0]]).double()
    found, linear = (each.normalise_observed(rows) for each in (made, plain))
    torch.testing.assert_close(found[:, 0], linear[:, 0])
    torch.testing.assert_close(found[2], linear[2])
    for row, sign in ((0, 1.0), (1, -1.0)):
        size = abs(float(linear[row, 1]))
        assert size > 100.0
        expected = sign * 10.0 * (1.0 + math.log(size / 10.0))
        assert math.isclose(float(found[row, 1]), expected, rel_tol=1e-12)

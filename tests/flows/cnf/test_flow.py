"""Tests of flows.cnf.flow."""

import pytest
import torch
from torch.distributions import Normal

from flows.cnf.engine import AdaptiveEngine, TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.flow.protocol import Known
from flows.flow.structure import StateBlock, Structure

from .models import Circuit, gaussian_tree, state_space
from .random_structures import random_field, random_structure

PRECISE = AdaptiveEngine(1e-9)


def _random_flow(seed: int, *, nuisances: int, vectors: bool):
    structure = random_structure(seed, nuisances=nuisances, vectors=vectors)
    config = FieldConfig(hidden=5, last_layer_scale=1.0)
    flow = build_flow(structure, config).double().solved_by(PRECISE)
    flow.field.load_state_dict(random_field(structure, seed, config).state_dict())
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(structure.free_dim, structure.free_dim, generator=generator)
    noise = torch.randn(5000, structure.free_dim, generator=generator)
    free = noise @ (torch.eye(structure.free_dim) + 0.3 * mixing) + 2.0
    observed = 3.0 * torch.randn(5000, 3, generator=generator)
    flow.normalisation.fit(free.double(), observed.double())
    return flow


@pytest.mark.parametrize(("nuisances", "vectors"), [(0, False), (2, True)])
def test_there_and_back_is_the_identity_and_densities_agree(nuisances, vectors):
    flow = _random_flow(1, nuisances=nuisances, vectors=vectors)
    generator = torch.Generator().manual_seed(0)
    observed = torch.randn(6, 3, generator=generator).double()
    base = flow.sample_base(6, generator=generator)
    free, nuisances, _ = flow.base_to_latent(base, observed)
    again, _ = flow.latent_to_base(free, nuisances, observed)
    torch.testing.assert_close(again, base, atol=1e-6, rtol=0)
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(5)
    )
    wanted = flow.log_prob(draw.free, draw.nuisances, observed)
    torch.testing.assert_close(draw.log_prob, wanted, atol=1e-5, rtol=0)


def test_log_prob_follows_from_the_jacobian_of_the_whole_map():
    flow = _random_flow(2, nuisances=1, vectors=True)
    coarse = flow.solved_by(TorchEngine(24))
    width = flow.structure.state_dim
    generator = torch.Generator().manual_seed(1)
    observed = torch.randn(1, 3, generator=generator).double()
    base = flow.sample_base(1, generator=generator)
    size = 1e-4
    moves = torch.cat([torch.eye(width), -torch.eye(width)]).double() * size
    with torch.no_grad():
        free, nuisances, _ = coarse.base_to_latent(
            base + moves, observed.expand(2 * width, 3)
        )
        at, with_nuisances, _ = coarse.base_to_latent(base, observed)
        got = coarse.log_prob(at, with_nuisances, observed)
    ends = torch.cat([free, nuisances], -1)
    jacobian = (ends[:width] - ends[width:]).T / (2.0 * size)
    log_det = torch.linalg.slogdet(jacobian).logabsdet
    wanted = Normal(0.0, 1.0).log_prob(base).sum() - log_det
    assert float(got) == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("make", [state_space, gaussian_tree])
def test_per_node_terms_are_the_conditional_densities_of_a_linear_gaussian(make):
    model, structure = make()
    flow = build_flow(structure, FieldConfig(hidden=4, last_layer_scale=0.0)).double()
    generator = torch.Generator().manual_seed(0)
    many = model.sample(100_000, generator=generator)
    flow.normalisation.fit(many.latents, many.observed)
    draws = model.sample(200, generator=generator)
    values = torch.cat([draws.latents, draws.observed], -1)
    none = draws.latents[:, :0]
    with torch.no_grad():
        got = flow.log_prob_per_node(draws.latents, none, draws.observed)
        total = flow.log_prob(draws.latents, none, draws.observed)
    torch.testing.assert_close(got.sum(-1), total)
    for position, block in enumerate(structure.blocks):
        column = block.free_columns[0]
        given = [structure.blocks[j].free_columns[0] for j in block.latent_parents]
        given += [model.num_latents + c for c in block.observed_columns]
        slopes, intercept, scale = model.conditional(column, given)
        mean = intercept + values[:, given] @ slopes
        wanted = Normal(mean, scale).log_prob(values[:, column])
        # regression on 100,000 draws: mean squared error about 1e-4 nats^2
        assert float((got[:, position] - wanted).square().mean()) < 1e-3


def test_per_node_term_depends_only_on_the_reach_of_the_node():
    flow = _random_flow(4, nuisances=1, vectors=False)
    structure = flow.structure
    generator = torch.Generator().manual_seed(2)
    observed = torch.randn(1, 3, generator=generator).double()
    free = torch.randn(1, structure.free_dim, generator=generator).double()
    none = torch.zeros(1, structure.nuisance_dim).double()
    flow = flow.solved_by(TorchEngine(4))
    with torch.no_grad():
        before = flow.log_prob_per_node(free, none, observed)
        for j in range(len(structure.blocks)):
            moved = free.clone()
            moved[:, list(structure.blocks[j].free_columns)] += 0.5
            after = flow.log_prob_per_node(moved, none, observed)
            for i, reach in enumerate(structure.reach):
                is_moved = abs(float(after[0, i] - before[0, i])) > 1e-12
                assert is_moved == (j in reach)


@pytest.mark.parametrize("seed", [1, 2])
def test_density_integrates_to_one(seed):
    structure = Structure(
        (StateBlock("u", (0,), 0, (), (0,)), StateBlock("v", (1,), 0, (0,), (0,))), 1
    )
    config = FieldConfig(hidden=6, last_layer_scale=1.0)
    flow = build_flow(structure, config).double()
    flow.field.load_state_dict(random_field(structure, seed, config).state_dict())
    flow.normalisation.shift.copy_(torch.tensor([1.0, -2.0]))
    flow.normalisation.scale.copy_(torch.tensor([2.0, 0.5]))
    # quadrature in the coordinates of the normalisation, wide and fine enough
    grid = torch.linspace(-12.0, 12.0, 161, dtype=torch.float64)
    u, v = torch.meshgrid(grid, grid, indexing="ij")
    scaled = torch.stack([u.reshape(-1), v.reshape(-1)], -1)
    free = scaled * flow.normalisation.scale + flow.normalisation.shift
    observed = torch.full((1, 1), 0.7, dtype=torch.float64)
    cell = float((grid[1] - grid[0]) ** 2 * flow.normalisation.scale.prod())
    total = 0.0
    with torch.no_grad():
        for part in torch.split(free, 2_000):
            rows = part.shape[0]
            log_prob = flow.log_prob(part, part[:, :0], observed.expand(rows, 1))
            total += float(log_prob.exp().sum()) * cell
    assert total == pytest.approx(1.0, abs=2e-3)


def test_both_directions_in_one_solve_equal_each_alone():
    flow = _random_flow(3, nuisances=1, vectors=True)
    flow = flow.solved_by(TorchEngine(6))
    generator = torch.Generator().manual_seed(3)
    free = torch.randn(4, flow.structure.free_dim, generator=generator).double()
    nuisances = torch.randn(4, flow.structure.nuisance_dim, generator=generator)
    observed = torch.randn(4, 3, generator=generator).double()
    base = flow.sample_base(4, generator=generator)
    args = (free, nuisances.double(), observed)
    both = flow.two_way(*args, base)
    torch.testing.assert_close(both.log_prob, flow.log_prob(*args))
    latents, drawn, log_det = flow.base_to_latent(base, observed)
    torch.testing.assert_close(both.draw.free, latents)
    torch.testing.assert_close(both.draw.nuisances, drawn)
    wanted = Normal(0.0, 1.0).log_prob(base).sum(-1) - log_det.sum(-1)
    torch.testing.assert_close(both.draw.log_prob, wanted)


def test_state_dict_is_tensors_only_and_brings_back_the_same_flow():
    flow = _random_flow(5, nuisances=1, vectors=True)
    state = flow.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other = build_flow(flow.structure, flow.config, seed=9).double()
    other.load_state_dict(state)
    generator = torch.Generator().manual_seed(3)
    free = torch.randn(2, flow.structure.free_dim, generator=generator).double()
    nuisances = torch.zeros(2, flow.structure.nuisance_dim).double()
    observed = torch.randn(2, 3, generator=generator).double()
    pair = [each.solved_by(TorchEngine(5)) for each in (flow, other)]
    one, two = (each.log_prob(free, nuisances, observed) for each in pair)
    assert torch.equal(one, two)


def test_no_stored_array_grows_with_the_square_of_the_state():
    sizes = []
    for num_steps in (20, 40):
        structure = Structure(
            tuple(
                StateBlock(f"z{i}", (i,), 0, (i - 1,) if i else (), (i,))
                for i in range(num_steps)
            ),
            num_steps,
        )
        flow = build_flow(structure, FieldConfig(hidden=4))
        arrays = [*flow.parameters(), *flow.buffers()]
        sizes.append(sum(array.numel() for array in arrays))
    assert sizes[1] < 2.1 * sizes[0]


def test_adaptive_engine_wants_float64():
    flow = build_flow(Circuit.structure(), FieldConfig(hidden=4))
    adaptive = flow.solved_by(AdaptiveEngine())
    rows = torch.zeros(1, 6)
    with pytest.raises(ValueError, match=r"expected a float64 flow .*; got torch.f"):
        adaptive.log_prob(rows, rows[:, :0], rows[:, :2])


@pytest.mark.parametrize(("nuisances", "vectors"), [(0, True), (2, False)])
def test_remaining_latents_given_a_joint_draw_are_that_draw(nuisances, vectors):
    flow = _random_flow(3, nuisances=nuisances, vectors=vectors)
    structure = flow.structure
    observed = torch.randn(6, 3, generator=torch.Generator().manual_seed(4)).double()
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(5)
    )
    whole = flow.log_prob_per_node(draw.free, draw.nuisances, observed)
    given = sorted(structure.reach[3] | structure.reach[1])
    assert 0 < len(given) < len(structure.blocks)
    names = [structure.names[i] for i in given]
    hidden = torch.ones(structure.state_dim, dtype=torch.bool)
    node = torch.tensor(structure.state_node)
    hidden[torch.isin(node, torch.tensor(given))] = False
    hidden = hidden[torch.argsort(torch.tensor(structure.state_order))]
    joined = torch.cat([draw.free, draw.nuisances], -1)
    joined = joined.masked_fill(hidden, torch.nan)  # values that may not be looked at
    free, nuisances = joined.split([structure.free_dim, structure.nuisance_dim], -1)
    known = Known(free, nuisances, names)
    found = flow.rsample_remaining(
        known, observed, generator=torch.Generator().manual_seed(5)
    )
    torch.testing.assert_close(found.free, draw.free, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.nuisances, draw.nuisances, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.log_prob_per_node, whole, rtol=0, atol=1e-6)
    same = ~hidden[: structure.free_dim]
    assert torch.equal(found.free[:, same], draw.free[:, same])


def test_given_latents_without_their_ancestors_are_refused():
    structure = Circuit.structure(0)
    assert structure.ancestral(["z3", "z5"]) == (0, 1)
    with pytest.raises(ValueError, match=r"z3 is given without .* expected z5 too"):
        structure.ancestral(["z1", "z2", "z3"])
    with pytest.raises(ValueError, match=r"no latent of this name.* got x9"):
        structure.ancestral(["z5", "x9"])

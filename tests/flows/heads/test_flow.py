"""Tests of flows.heads.flow and flows.heads.networks: a flow with heads."""

import itertools

import pytest
import torch
from scipy import stats

from flows.errors import ArgumentError
from flows.flow.kinds import finer, for_weights, in_steps, is_solved, solved_with
from flows.flow.protocol import Known
from flows.heads.building import headed_flow, headed_inverse, headed_structure
from flows.heads.networks import HeadsConfig
from flows.marginal.target import target_of
from flows.model.model import Model
from tests.flows.heads.programs import FLIPS, MIXED


def made(text, kind="autoregressive", *, seed=0):
    """A new flow, its heads far from flat, and its target."""
    model = Model.from_program(text)
    names = tuple(v.name for v in model.layout.latents if v.is_discrete)
    target = target_of(model, sampled=names)
    structure, cells = headed_structure(
        target, headed_inverse(target), {}, num_draws=2000, seed=seed
    )
    shape = HeadsConfig(last_layer_scale=3.0)
    flow = headed_flow(structure, cells, kind=kind, config=None, heads=shape, seed=seed)
    draws = target.sample(2000, generator=torch.Generator().manual_seed(seed))
    flow.fit_normalisation(target.unconstrain(draws.latents)[0], draws.observed)
    return for_weights(solved_with(flow, "auto")), target


def _drawn(flow, target, count, seed=0):
    observed = target.observation().expand(count, -1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return flow.rsample_and_log_prob(observed, generator=generator), observed


@pytest.mark.parametrize("kind", ["autoregressive", "cnf", "finite"])
def test_density_at_a_draw_is_what_came_with_it(kind):
    flow, target = made(MIXED, kind)
    drawn, observed = _drawn(flow, target, 60)
    with torch.no_grad():
        found = flow.log_prob_per_node(drawn.free, drawn.nuisances, observed)
    torch.testing.assert_close(found, drawn.log_prob_per_node, atol=1e-5, rtol=1e-5)
    assert flow.structure.names[0] == "sample0"
    assert found.shape[1] == 4


def test_all_parameters_stand_in_its_modules_under_their_names():
    """So what a module says of its weights, a share of the rate say, is found."""
    flow, _ = made(MIXED)
    found = {
        f"{module}.{name}": parameter
        for module, each in flow.named_modules()
        for name, parameter in each.named_parameters(recurse=False)
    }
    named = dict(flow.named_parameters())
    assert found.keys() == named.keys()
    assert all(found[name] is parameter for name, parameter in named.items())


def test_the_solver_of_the_flow_inside_takes_as_many_steps_as_it_is_told():
    flow, target = made(MIXED, "cnf")
    with torch.no_grad():  # far from where a single step is exact
        for weight in flow.inner.parameters():
            weight.mul_(2.0).add_(0.1)
    drawn, observed = _drawn(flow, target, 50)

    def error(solved):
        found = solved.log_prob(drawn.free, drawn.nuisances, observed)
        return float((found - drawn.log_prob).abs().max())

    assert is_solved(flow)
    stepped = solved_with(flow, "torch")
    with torch.no_grad():
        errors = [error(in_steps(stepped, count)) for count in (1, 2, 4, 32)]
        assert error(finer(in_steps(stepped, 2), 2)) == errors[2]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]
    plain, _ = made(MIXED, "finite")
    assert not is_solved(plain)
    assert in_steps(plain, 4) is plain


def test_probabilities_of_all_configurations_add_up_to_one():
    flow, target = made(FLIPS)
    values = [(0, 1), (0, 1), (0, 1, 2)]
    free = torch.tensor([*itertools.product(*values)], dtype=torch.float64) + 0.5
    observed = target.observation().expand(len(free), -1)
    with torch.no_grad():
        found = flow.log_prob(free, free[:, :0], observed).exp()
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(found.max()) > 3 / len(free)  # it is not flat
    assert bool((found > 1e-12).all())


def test_draws_follow_the_probabilities():
    flow, target = made(FLIPS)
    count = 40_000
    drawn, _ = _drawn(flow, target, count)
    every, places, seen = drawn.free.unique(
        dim=0, return_inverse=True, return_counts=True
    )
    chances = drawn.log_prob.exp().new_zeros(len(every))
    chances[places] = drawn.log_prob.exp()
    often = chances * count > 5
    expected = torch.cat([chances[often], 1 - chances[often].sum(0, keepdim=True)])
    rest = count - seen[often].sum(0, keepdim=True)
    found = stats.chisquare(torch.cat([seen[often], rest]), expected * count)
    assert found.pvalue > 1e-6


def test_a_count_has_mass_one_and_no_value_is_impossible():
    flow, target = made(MIXED)
    drawn, observed = _drawn(flow, target, 1)
    column = flow.heads.columns[flow.heads.names.index("sample3")]
    values = torch.arange(20_000, dtype=torch.float64)
    free = drawn.free.repeat(len(values), 1)
    free[:, column] = values + 0.5
    with torch.no_grad():
        terms = flow.heads.log_prob(free, observed.expand(len(free), -1))
    place = flow.heads.names.index("sample3")
    found = terms[:, place]
    # Beyond the last of them the tail leaves some 1e-5.
    assert float(found.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    assert bool((found > -40).all())


def test_heads_read_what_the_inverse_says_and_nothing_else():
    flow, target = made(FLIPS)
    drawn, observed = _drawn(flow, target, 40)
    with torch.no_grad():
        before = flow.heads.log_prob(drawn.free, observed)
        for place, block in enumerate(flow.structure.blocks):
            for other, name in enumerate(flow.structure.names):
                moved = drawn.free.clone()
                column = flow.structure.blocks[other].free_columns[0]
                moved[:, column] = 2.0 - moved[:, column].clamp(max=1.5)
                after = flow.heads.log_prob(moved, observed)[:, place]
                reads = other in block.latent_parents or other == place
                assert torch.equal(after, before[:, place]) != reads, name


def test_given_latents_keep_their_values():
    flow, target = made(MIXED)
    drawn, observed = _drawn(flow, target, 50)
    names = flow.structure.names
    for count in range(1, len(names)):
        known = Known(drawn.free, drawn.nuisances, names[:count])
        generator = torch.Generator().manual_seed(count)
        with torch.no_grad():
            found = flow.rsample_remaining(known, observed, generator=generator)
            again = flow.log_prob_per_node(found.free, found.nuisances, observed)
        columns = [c for b in flow.structure.blocks[:count] for c in b.free_columns]
        torch.testing.assert_close(found.free[:, columns], drawn.free[:, columns])
        torch.testing.assert_close(again, found.log_prob_per_node, rtol=1e-5, atol=1e-5)
        assert not torch.equal(found.free, drawn.free)
    with pytest.raises(ArgumentError, match="is given without"):
        flow.rsample_remaining(Known(drawn.free, drawn.nuisances, names[-1:]), observed)


def test_gradients_of_heads_are_those_of_autograd_by_differences():
    flow, target = made(FLIPS)
    drawn, observed = _drawn(flow, target, 30)
    bias = flow.heads.networks.last_bias
    bias.requires_grad_()
    flow.heads.log_prob(drawn.free, observed).sum().backward()
    slope = float(bias.grad[0, 1])
    with torch.no_grad():
        step = 1e-5
        bias[0, 1] += step
        high = flow.heads.log_prob(drawn.free, observed).sum()
        bias[0, 1] -= 2 * step
        low = flow.heads.log_prob(drawn.free, observed).sum()
    assert slope == pytest.approx(float(high - low) / (2 * step), abs=1e-5)
    assert slope != 0.0


def test_half_of_a_heads_first_units_see_all_directions_of_joint_draws_alike():
    flow, target = made(MIXED)
    draws = target.sample(2000, generator=torch.Generator().manual_seed(0))
    free = target.unconstrain(draws.latents)[0]
    heads = flow.heads
    given = heads._given(free, draws.observed).double().detach()
    networks = heads.networks
    for place, width in enumerate(networks._widths):
        if width < 2:
            continue
        own = slice(networks.starts[place], networks.starts[place + 1])
        weights = networks.first[own].detach().double()
        seen = given[:, networks.reads[own]].clamp(-10, 10) @ weights
        half = weights.shape[1] // 2
        # Independent weights of variance 1 / width, and so their sum of squares.
        assert float(seen.var(0)[:half].mean()) == pytest.approx(1.0, rel=0.4)

"""Tests of flows.finite.flow, of its networks and its kind."""

import pytest
import torch

from flows.finite.flow import FiniteConfig
from flows.finite.kind import KIND
from flows.flow.kinds import build_flow, for_weights
from flows.flow.structure import StateBlock, Structure

STRUCTURE = Structure(
    (
        StateBlock("a", (2,), 0, (), ()),
        StateBlock("b", (0, 4), 1, (0,), (1,)),
        StateBlock("c", (1,), 0, (0,), (1,)),
        StateBlock("d", (3,), 0, (1, 2), (0,)),
    ),
    observed_dim=2,
)
"""A node without anything to read, a vector, and another order of columns."""

CONFIGS = (
    FiniteConfig(length=0),
    FiniteConfig(length=3, hidden=5),
    FiniteConfig(transform="radial", length=4, layers=1),
)


def _flow(config):
    flow = build_flow(STRUCTURE, config, kind="finite", seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    draws = torch.randn(200, 7, generator=generator)
    flow.fit_normalisation(draws[:, :5] + draws[:, 5:6], draws[:, 5:])
    return for_weights(flow)


def _rows(num=6):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num, 2, generator=generator).double()


@pytest.mark.parametrize("config", CONFIGS)
def test_density_at_a_draw_is_what_came_with_it(config):
    flow = _flow(config)
    observed = _rows()
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(0)
    )
    terms = flow.log_prob_per_node(draw.free, draw.nuisances, observed)
    torch.testing.assert_close(terms, draw.log_prob_per_node, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", CONFIGS)
def test_density_is_that_of_the_jacobian_of_the_whole_map(config):
    flow = _flow(config)
    observed = _rows(1)
    base = flow.sample_base(1, generator=torch.Generator().manual_seed(0))

    def state(point):
        draw = flow.from_base(point.unsqueeze(0), observed)
        return torch.cat([draw.free, draw.nuisances], -1)[0]

    jacobian = torch.autograd.functional.jacobian(state, base[0])
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(base).sum()
    wanted = normal - torch.linalg.slogdet(jacobian)[1].detach()
    found = flow.from_base(base, observed).log_prob[0].detach()
    assert float(found) == pytest.approx(float(wanted), abs=1e-9)


def test_term_of_a_node_depends_on_its_reach_alone():
    flow = _flow(CONFIGS[1])
    observed = _rows(1)
    free = torch.randn(1, 5, generator=torch.Generator().manual_seed(4)).double()
    nuisances = torch.zeros(1, 1).double()

    def terms(values, given):
        return flow.log_prob_per_node(values, nuisances, given)[0]

    by_free, by_observed = torch.autograd.functional.jacobian(terms, (free, observed))
    for node in range(4):
        columns = {
            c for j in STRUCTURE.reach[node] for c in STRUCTURE.blocks[j].free_columns
        }
        read = {c for c in range(5) if float(by_free[node, 0, c]) != 0.0}
        seen = {c for c in range(2) if float(by_observed[node, 0, c]) != 0.0}
        assert read == columns
        assert seen == STRUCTURE.observed_reach[node]


@pytest.mark.parametrize("config", CONFIGS)
def test_remaining_latents_given_a_joint_draw_are_that_draw(config):
    flow = _flow(config)
    observed = _rows()
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(5)
    )
    found = flow.rsample_remaining(
        torch.where(torch.tensor([0, 1, 0, 1, 0]).bool(), torch.nan, draw.free),
        draw.nuisances,
        observed,
        ["a", "b"],
        generator=torch.Generator().manual_seed(5),
    )
    torch.testing.assert_close(found.free, draw.free, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.log_prob_per_node, draw.log_prob_per_node)


def test_row_depends_on_no_other_row():
    flow = _flow(CONFIGS[1])
    observed = _rows()
    base = flow.sample_base(6, generator=torch.Generator().manual_seed(0))
    whole = flow.from_base(base, observed)
    part = flow.from_base(base[2:4], observed[2:4])
    torch.testing.assert_close(whole.free[2:4], part.free)
    torch.testing.assert_close(whole.log_prob[2:4], part.log_prob)


@pytest.mark.parametrize("config", CONFIGS)
def test_stated_lengths_are_those_of_the_tensors(config):
    flow = build_flow(STRUCTURE, config, kind="finite")
    found = {name: tensor.numel() for name, tensor in flow.state_dict().items()}
    stated = KIND.lengths(STRUCTURE, config)
    assert all(found[name] == length for name, length in stated.items())
    learned = {name for name, _ in flow.named_parameters()}
    assert learned <= set(stated)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    one, two, other = (
        build_flow(STRUCTURE, kind="finite", seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)

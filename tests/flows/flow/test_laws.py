"""Laws of `flows.flow.protocol` that flows of every kind keep."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal

from flows.autoregressive.conditioner import NetworkConfig
from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.errors import ArgumentError
from flows.finite.flow import FiniteConfig
from flows.flow.kinds import KINDS, build_flow, for_weights, kind_of
from flows.flow.potentials import Potential
from flows.flow.protocol import Known
from flows.flow.structure import StateBlock, Structure
from flows.structured_gaussian.flow import StructuredGaussianConfig
from tests.flows.kinds.affine import AffineConfig

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

GAUSSIAN = Structure(
    (
        StateBlock("a", (2,), 0, (), (0, 1)),
        StateBlock("b", (0, 4), 1, (0,), (1,)),
        StateBlock("c", (1,), 0, (0,), (0,)),
        StateBlock("d", (3,), 0, (2,), (0,)),
    ),
    observed_dim=2,
    potentials=(
        Potential((2,), (), (0.0, 1.0), 1, ""),
        Potential((0, 4, 2), (), (0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0), 2, "vector"),
        Potential((1, 2), (), (0.5, 1.0, -2.0), 1, ""),
        Potential((3, 1), (0,), (1.0, 0.3, 2.0, 0.0, -1.0, 0.2), 1, ""),
        Potential((4, 0), (1,), (0.0, 0.0, 1.0, 0.0, 0.7, 0.4), 0, "link"),
        Potential((1, 3), (0,), (0.0, 0.0, -1.0, 0.1, 0.5, 0.0), 0, "link"),
    ),
)
"""Structure of a structured Gaussian: exact potentials and others, one form twice."""

SHARED = Structure(
    (
        StateBlock("a", (2,), 0, (), (0,)),
        StateBlock("b", (0, 4), 1, (0,), (1, 0)),
        StateBlock("c", (1,), 0, (0,), (1, 0)),
        StateBlock("d", (3,), 0, (1, 2), ()),
    ),
    observed_dim=2,
)
"""Both data are read by three columns, for which a context stands."""

CASES = {
    "cnf": ("cnf", FieldConfig(layers=2, hidden=5)),
    "cliques": ("cnf", FieldConfig(layers=3, hidden=0)),
    "normal": ("finite", FiniteConfig(length=0)),
    "planar": ("finite", FiniteConfig(length=3, hidden=5)),
    "radial": ("finite", FiniteConfig(transform="radial", length=4, layers=1)),
    "mixtures": ("autoregressive", NetworkConfig(components=3, layers=2, hidden=8)),
    "contexts": (
        "autoregressive",
        NetworkConfig(components=3, layers=2, hidden=5, context=1, forms=3),
    ),
    "gaussian": ("structured-gaussian", StructuredGaussianConfig(hidden=5)),
    "corrected": (
        "structured-gaussian",
        StructuredGaussianConfig(hidden=5, corrected_by="autoregressive"),
    ),
    "affine": ("affine", AffineConfig(1.6)),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def rows(num=6):
    return torch.randn(num, 2, generator=seeded(3)).double()


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    monkeypatch.setitem(KINDS, "affine", "tests.flows.kinds.affine")
    return CASES[request.param]


@pytest.fixture
def structure(case):
    if case == CASES["contexts"]:
        return SHARED
    return GAUSSIAN if case[0] == "structured-gaussian" else STRUCTURE


@pytest.fixture
def flow(case, structure):
    kind, config = case
    flow = build_flow(structure, config, kind=kind, seed=1)
    generator = seeded(2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    draws = torch.randn(200, 7, generator=generator)
    flow.fit_normalisation(draws[:, :5] + draws[:, 5:6], draws[:, 5:])
    if kind == "cnf":  # its engine for weights has no gradients
        return flow.double().solved_by(TorchEngine(24))
    return for_weights(flow)


def test_density_at_a_draw_is_what_came_with_it(flow):
    draw = flow.rsample_and_log_prob(rows(), generator=seeded(0))
    terms = flow.log_prob_per_node(draw.free, draw.nuisances, rows())
    torch.testing.assert_close(terms, draw.log_prob_per_node, rtol=0, atol=1e-7)


def test_density_is_that_of_the_jacobian_of_the_whole_map(flow):
    observed, base = rows(1), flow.sample_base(1, generator=seeded(0))

    def state(point):
        draw = flow.from_base(point[None], observed)
        return torch.cat([draw.free, draw.nuisances], -1)[0]

    jacobian = torch.autograd.functional.jacobian(state, base[0])
    wanted = Normal(0.0, 1.0).log_prob(base).sum() - torch.linalg.slogdet(jacobian)[1]
    found = flow.from_base(base, observed).log_prob[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_term_of_a_node_depends_on_all_its_parents_and_its_reach_alone(flow):
    free = torch.randn(1, 5, generator=seeded(4)).double()
    by_free, by_observed = torch.autograd.functional.jacobian(
        lambda z, x: flow.log_prob_per_node(z, torch.zeros(1, 1).double(), x)[0],
        (free, rows(1)),
    )
    blocks = flow.structure.blocks
    for node, block in enumerate(blocks):
        least = {
            c for j in (node, *block.latent_parents) for c in blocks[j].free_columns
        }
        most = {c for j in flow.structure.reach[node] for c in blocks[j].free_columns}
        read = set(by_free[node, 0].nonzero()[:, 0].tolist())
        seen = set(by_observed[node, 0].nonzero()[:, 0].tolist())
        assert least <= read <= most
        assert {*block.observed_columns} <= seen <= flow.structure.observed_reach[node]


def test_remaining_latents_given_a_joint_draw_are_that_draw(flow):
    draw = flow.rsample_and_log_prob(rows(), generator=seeded(5))
    is_hidden = torch.tensor([0, 1, 0, 1, 0]).bool()
    free = torch.where(is_hidden, torch.nan, draw.free)
    known = Known(free, draw.nuisances, ["a", "b"])
    found = flow.rsample_remaining(known, rows(), generator=seeded(5))
    torch.testing.assert_close(found.free, draw.free, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.log_prob_per_node, draw.log_prob_per_node)
    with pytest.raises(ArgumentError, match="b is given without"):
        flow.rsample_remaining(replace(known, nodes=["b"]), rows())


def test_row_depends_on_no_other_row(flow):
    base = flow.sample_base(6, generator=seeded(0))
    whole = flow.from_base(base, rows())
    part = flow.from_base(base[2:4], rows()[2:4])
    torch.testing.assert_close(whole.free[2:4], part.free)
    torch.testing.assert_close(whole.log_prob[2:4], part.log_prob)


def test_equal_seeds_give_equal_weights_and_others_do_not(case, structure):
    kind, config = case
    one, two, other = (
        build_flow(structure, config, kind=kind, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    is_random = kind != "affine"
    assert is_random != all(torch.equal(one[name], other[name]) for name in one)


def test_stated_lengths_are_those_of_the_tensors(case, structure):
    kind, config = case
    flow = build_flow(structure, config, kind=kind)
    found = {name: tensor.numel() for name, tensor in flow.state_dict().items()}
    stated = kind_of(kind).lengths
    if stated is not None:
        for name, length in stated(structure, config).items():
            assert found[name] == length, name

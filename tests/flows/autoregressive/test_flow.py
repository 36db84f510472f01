"""Tests of flows.autoregressive.flow."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from flows.autoregressive import flow as module
from flows.autoregressive.conditioner import NetworkConfig
from flows.flow.kinds import build_flow, for_weights
from flows.flow.structure import StateBlock, Structure
from tests.flows.cnf.models import Circuit, state_space

CONFIG = NetworkConfig(components=3, layers=2, hidden=8, last_layer_scale=2.0)
TWO = Structure(
    (StateBlock("a", (1, 2), 1, (), (0,)), StateBlock("b", (0,), 1, (0,), ())), 1
)


def _fitted(model, structure, config=CONFIG):
    flow = build_flow(structure, config, kind="autoregressive", seed=1)
    draws = model.sample(4000, generator=torch.Generator().manual_seed(0))
    flow.fit_normalisation(draws.latents, draws.observed)
    return for_weights(flow), draws


@pytest.fixture(scope="module")
def circuit():
    return _fitted(Circuit(), Circuit.structure(nuisances=1))


def test_density_integrates_to_one():
    generator = torch.Generator().manual_seed(0)
    smooth = NetworkConfig(components=3, layers=2, hidden=8, last_layer_scale=0.5)
    flow = build_flow(TWO, smooth, kind="autoregressive", seed=2)
    rows = torch.randn(500, 4, generator=generator)
    flow.fit_normalisation(rows[:, :3], rows[:, 3:])
    flow = for_weights(flow)
    axis = torch.linspace(-9, 9, 73, dtype=torch.float64)
    free = torch.cartesian_prod(axis, axis, axis)
    nuisances = torch.zeros(len(free), 2, dtype=torch.float64)
    observed = torch.full((len(free), 1), 0.4, dtype=torch.float64)
    with torch.no_grad():
        log_prob = flow.log_prob(free, nuisances, observed)
    # nuisances are at their mode, where N(0, I) is 1 / (2 pi)
    total = log_prob.exp().sum() * 0.25**3 * 2 * torch.pi
    assert float(total) == pytest.approx(1.0, abs=1e-3)


def test_a_node_depends_on_what_it_reads_alone(circuit):
    flow, draws = circuit
    free = draws.latents[:1].clone().requires_grad_()
    observed = draws.observed[:1].clone().requires_grad_()
    nuisances = torch.zeros(1, 6, dtype=torch.float64)
    terms = flow.log_prob_per_node(free, nuisances, observed)[0]
    for i, block in enumerate(flow.structure.blocks):
        by_free, by_observed = torch.autograd.grad(
            terms[i], (free, observed), retain_graph=True
        )
        read = {flow.structure.blocks[j].free_columns[0] for j in block.latent_parents}
        assert set(by_free[0].nonzero()[:, 0].tolist()) == read | {*block.free_columns}
        assert set(by_observed[0].nonzero()[:, 0].tolist()) == {*block.observed_columns}


def test_many_rows_are_taken_in_parts(circuit, monkeypatch):
    flow, draws = circuit
    base = flow.sample_base(50, generator=torch.Generator().manual_seed(5))
    whole = flow.from_base(base, draws.observed[:50])
    monkeypatch.setattr(module, "_MOST_NUMBERS", 7 * flow.conditioner.row_size)
    with torch.no_grad():
        parts = flow.from_base(base, draws.observed[:50])
    torch.testing.assert_close(parts.free, whole.free)
    torch.testing.assert_close(parts.log_prob_per_node, whole.log_prob_per_node)


def test_quick_draws_have_the_moments_of_exact_ones(circuit):
    flow, draws = circuit
    observed = draws.observed[:1].expand(20_000, -1)
    base = flow.sample_base(20_000, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        exact = flow.from_base(base, observed).free
    quick = flow.drawn(base, observed)[0]
    error = (exact.var(0) / 20_000).sqrt() * 2**0.5
    assert float(((quick.mean(0) - exact.mean(0)) / error).abs().max()) < 5
    ranks = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    shares = (quick[:, None] < exact.quantile(ranks, dim=0)).double().mean(0)
    assert float((shares - ranks[:, None]).abs().max()) < 5 * 0.5 * (2 / 20_000) ** 0.5


def test_linear_gaussian_model_is_nearly_answered_before_training():
    model, structure = state_space(4)
    flow, draws = _fitted(model, structure, NetworkConfig(last_layer_scale=0.01))
    with torch.no_grad():
        log_prob = flow.log_prob(draws.latents, draws.latents[:, :0], draws.observed)
    # what is left is log p(x), a function of the data alone
    found = model.log_joint(draws.latents, draws.observed) - log_prob
    evidence = MultivariateNormal(model.mean[4:], model.covariance[4:, 4:])
    error = found - evidence.log_prob(draws.observed)
    assert float(error.square().mean()) < 0.02


def test_a_structure_without_blocks_has_the_flow_of_no_latents():
    flow = build_flow(Structure((), 2), kind="autoregressive").double()
    observed = torch.randn(5, 2, dtype=torch.float64)
    flow.fit_normalisation(observed[:, :0], observed)
    drawn = flow.rsample_and_log_prob(observed)
    assert drawn.free.shape == (5, 0)
    assert torch.equal(drawn.log_prob, torch.zeros(5, dtype=torch.float64))
    found = flow.log_prob(drawn.free, drawn.nuisances, observed)
    assert torch.equal(found, drawn.log_prob)


def test_data_around_a_level_that_could_be_anywhere_tell_their_scale():
    """The scale of steps of a walk, which are a hundredth of where it may be.

    Its posterior given the steps, which say all of it, is a gamma distribution.
    """
    structure = Structure((StateBlock("scale", (0,), 0, (), tuple(range(12))),), 12)
    generator = torch.Generator().manual_seed(4)

    def drawn(count):
        precision = torch.distributions.Gamma(3.0, 3.0)
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(9999, (), generator=generator)))
            scale = precision.sample((count, 1)).rsqrt()
        steps = scale * torch.randn(count, 12, generator=generator)
        steps[:, 0] = 100.0 * torch.randn(count, generator=generator)
        return scale.log(), steps.cumsum(1)

    flow = build_flow(structure, NetworkConfig(), kind="autoregressive", seed=0)
    free, observed = drawn(20_000)
    flow.fit_normalisation(free, observed)
    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
    for _ in range(300):
        free, observed = drawn(512)
        optimizer.zero_grad()
        (-flow.log_prob(free, free[:, :0], observed).mean()).backward()
        optimizer.step()
    free, observed = drawn(4000)
    steps = observed.double().diff(dim=1)
    shape = 3.0 + 5.5
    rate = 3.0 + 0.5 * steps.square().sum(1)
    precision = (-2.0 * free[:, 0]).double().exp()
    exact = torch.distributions.Gamma(shape, rate).log_prob(precision)
    exact = exact + (2.0 * precision).log()
    with torch.no_grad():
        gap = exact - flow.log_prob(free, free[:, :0], observed)
    assert float(gap.mean()) < 0.1

"""Tests of flows.training.losses."""

import math

import pytest
import torch

from flows.autoregressive.conditioner import NetworkConfig
from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.flow.structure import StateBlock, Structure
from flows.training.batches import draw_batch
from flows.training.estimates import estimate
from flows.training.losses import (
    contrast,
    flow_matching,
    forward_kl,
    free_energy,
    reverse_kl,
    symmetric,
    symmetric_parts,
    symmetric_path,
)
from tests.flows.cnf.models import Circuit, LinearGaussian

NUM = 20_000


def _pair(offset: float, slope: float, scale: float, nuisances: int = 0):
    """Model z ~ N(0, 1), x ~ N(z, 1); proposal N(offset + slope x, scale)."""
    model = LinearGaussian([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, 1.0], 1)
    structure = Structure((StateBlock("z", (0,), nuisances, (), (0,)),), 1)
    config = FieldConfig(hidden=3, last_layer_scale=0.0)
    flow = build_flow(structure, config).double().solved_by(TorchEngine(1))
    flow.normalisation.offset[0] = offset
    flow.normalisation.observed_coefficients[0] = slope
    flow.normalisation.residual_scale[0] = scale
    return model, flow


def _exact(offset: float, slope: float, scale: float):
    """Both directions against the posterior N(x / 2, 1 / 2), with x ~ N(0, 2)."""
    gap = offset**2 + 2.0 * (slope - 0.5) ** 2
    forward = math.log(scale / math.sqrt(0.5)) + (0.5 + gap) / (2 * scale**2) - 0.5
    reverse = math.log(math.sqrt(0.5) / scale) + (scale**2 + gap) / (2 * 0.5) - 0.5
    # E log p(x) of x ~ N(0, 2)
    constant = -0.5 * math.log(2 * math.pi * 2.0) - 0.5
    return forward + constant, reverse - constant


@pytest.mark.parametrize("nuisances", [0, 2])
@pytest.mark.parametrize("case", [(0.0, 0.5, math.sqrt(0.5)), (0.3, 0.2, 0.9)])
def test_estimates_agree_with_closed_forms(case, nuisances):
    model, flow = _pair(*case, nuisances)
    generator = torch.Generator().manual_seed(0)
    batch = draw_batch(model, flow, NUM, generator=generator)
    with torch.no_grad():
        forward, reverse = symmetric_parts(model, flow, batch)
        both = symmetric(model, flow, batch)
        alone = forward_kl(model, flow, batch), reverse_kl(model, flow, batch)
    for terms, one, wanted in zip(
        (forward, reverse), alone, _exact(*case), strict=True
    ):
        got = estimate(terms)
        assert abs(got.mean - wanted) < 5 * got.standard_error + 1e-9
        torch.testing.assert_close(terms, one)
    got = estimate(both)
    assert abs(got.mean - sum(_exact(*case)) / 2) < 5 * got.standard_error + 1e-9
    torch.testing.assert_close(both, 0.5 * (forward + reverse))


def test_symmetric_terms_vanish_row_by_row_when_the_flow_is_the_posterior():
    model, flow = _pair(0.0, 0.5, math.sqrt(0.5))
    batch = draw_batch(model, flow, 100, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        terms = symmetric(model, flow, batch)
    assert float(terms.abs().max()) < 1e-12


def test_gradient_of_the_reverse_direction_is_that_of_its_closed_form():
    case = (0.3, 0.2, 0.9)
    model, flow = _pair(*case)
    flow.normalisation.offset.requires_grad_()
    batch = draw_batch(model, flow, NUM, generator=torch.Generator().manual_seed(1))
    terms = reverse_kl(model, flow, batch)
    (got,) = torch.autograd.grad(terms.mean(), flow.normalisation.offset)
    # d/d offset of gap / (2 sigma^2) = 2 offset / (2 * 0.5); terms vary with sd about 2
    assert float(got[0]) == pytest.approx(2 * 0.3, abs=0.1)


def test_free_energy_is_the_reverse_direction_with_a_share_of_the_target():
    model, flow = _pair(0.3, 0.2, 0.9)
    batch = draw_batch(model, flow, 50, generator=torch.Generator().manual_seed(1))
    draw = flow.from_base(batch.base, batch.observed)
    wanted = draw.log_prob - 0.3 * model.log_joint_free(draw.free, batch.observed)
    torch.testing.assert_close(free_energy(model, flow, batch, 0.3), wanted)
    whole = free_energy(model, flow, batch, 1.0)
    torch.testing.assert_close(whole, reverse_kl(model, flow, batch))


def _gradient(loss, model, flow, batch):
    flow.zero_grad()
    loss(model, flow, batch).mean().backward()
    return torch.cat([p.grad.reshape(-1) for p in flow.parameters()])


def _curved_flow(nuisances: int):
    flow = build_flow(
        Circuit.structure(nuisances),
        FieldConfig(hidden=4, last_layer_scale=0.5),
        seed=3,
    ).double()
    flow = flow.solved_by(TorchEngine(12))
    draws = Circuit().sample(2000, generator=torch.Generator().manual_seed(0))
    flow.normalisation.fit(draws.latents, draws.observed)
    return flow


@pytest.mark.parametrize("nuisances", [0, 1])
def test_terms_with_the_path_gradient_are_those_without(nuisances):
    model, flow = Circuit(), _curved_flow(nuisances)
    batch = draw_batch(model, flow, 64, generator=torch.Generator().manual_seed(1))
    got = symmetric_path(model, flow, batch)
    torch.testing.assert_close(got, symmetric(model, flow, batch), rtol=1e-4, atol=1e-3)
    assert all(p.requires_grad for p in flow.parameters())


@pytest.mark.parametrize("nuisances", [0, 1])
def test_path_gradient_has_the_mean_of_the_total_gradient(nuisances):
    # means over rows along random directions, and of every weight, within 5 errors
    model, flow = Circuit(), _curved_flow(nuisances)
    generator = torch.Generator().manual_seed(2)
    gaps, sizes = [], []
    for _ in range(60):
        batch = draw_batch(model, flow, 200, generator=generator)
        total = _gradient(symmetric, model, flow, batch)
        gaps.append(_gradient(symmetric_path, model, flow, batch) - total)
        sizes.append(total)
    gap, size = torch.stack(gaps), torch.stack(sizes).mean(0)
    turned = torch.randn(gap.shape[1], 20, generator=generator, dtype=torch.float64)
    for values in (gap, gap @ turned):
        error = values.std(0) / len(values) ** 0.5
        assert bool((values.mean(0).abs() <= 5 * error + 1e-9).all())
    # the errors are small beside what they are errors of
    assert float((gap.std(0) / 60**0.5).norm()) < 0.2 * float(size.norm())


def test_path_gradient_is_without_noise_where_the_flow_is_the_posterior():
    model, flow = _pair(0.0, 0.5, math.sqrt(0.5), nuisances=1)
    batch = draw_batch(model, flow, 50, generator=torch.Generator().manual_seed(0))
    total = _gradient(symmetric, model, flow, batch)
    path = _gradient(symmetric_path, model, flow, batch)
    assert float(total.norm()) > 0.1
    assert float(path.norm()) < 1e-12


def test_flow_matching_is_least_where_the_field_is_the_expected_velocity():
    # base e and end r independent standard normals: at time t the expected velocity
    # given (1 - t) e + t r = u is (2 t - 1) u / (t^2 + (1 - t)^2), with variance
    # 1 / (t^2 + (1 - t)^2) around it, and the velocity itself has variance 2
    model, flow = _pair(0.0, 0.5, math.sqrt(0.5))
    generator = torch.Generator().manual_seed(0)
    batch = draw_batch(model, flow, NUM, generator=generator)
    times = torch.full((NUM,), 0.25, dtype=torch.float64)
    got = estimate(flow_matching(flow, batch, times))
    assert abs(got.mean - 2.0) < 5 * got.standard_error


def _mixture_pair(offset: float, slope: float, scale: float):
    """The pair of `_pair`, the proposal a mixture of one component."""
    model, other = _pair(offset, slope, scale)
    config = NetworkConfig(
        components=1, layers=1, hidden=1, last_layer_scale=0.0, log_beyond=0.0
    )
    flow = build_flow(other.structure, config, kind="autoregressive").double()
    flow.normalisation.load_state_dict(other.normalisation.state_dict())
    return model, flow


def _slopes_by_contrasts(model, flow, objective, num_blocks=20):
    """Terms and slopes by centre and raw scale of blocks of rows."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(num_blocks):
        batch = draw_batch(model, flow, NUM // num_blocks, generator=generator)
        base = flow.sample_base(4 * len(batch.free), generator=generator)
        terms = objective(batch, base.view(4, -1, 1)).mean()
        (slope,) = torch.autograd.grad(terms, flow.conditioner.last_bias)
        found.append(torch.cat([terms.detach()[None], slope[0, 1:]]))
    return torch.stack(found)


@pytest.mark.parametrize("case", [(0.0, 0.5, math.sqrt(0.5)), (0.3, 0.2, 0.9)])
def test_contrasts_have_values_and_slopes_of_the_closed_form(case):
    offset, slope, scale = case
    model, flow = _mixture_pair(*case)
    raw = float(flow.conditioner.last_bias.detach()[0, 2])

    def objective(centre, bent):
        residual_scale = math.log1p(math.exp(raw + bent)) + 1e-3
        return sum(_exact(offset + scale * centre, slope, scale * residual_scale)) / 2

    step = 1e-5
    wanted = torch.tensor(
        [
            objective(0.0, 0.0),
            (objective(step, 0.0) - objective(-step, 0.0)) / (2 * step),
            (objective(0.0, step) - objective(0.0, -step)) / (2 * step),
        ],
        dtype=torch.float64,
    )
    rows = _slopes_by_contrasts(model, flow, lambda *row: contrast(model, flow, *row))
    error = rows.std(0) / len(rows) ** 0.5
    assert bool(((rows.mean(0) - wanted).abs() < 5 * error + 1e-12).all())


def test_noise_of_contrasts_is_a_fraction_where_the_proposal_is_exact():
    model, flow = _mixture_pair(0.0, 0.5, math.sqrt(0.5))
    quiet = _slopes_by_contrasts(model, flow, lambda *row: contrast(model, flow, *row))
    plain = _slopes_by_contrasts(
        model, flow, lambda batch, _: forward_kl(model, flow, batch)
    )
    assert bool((quiet[:, 1:].std(0) < 0.25 * plain[:, 1:].std(0)).all())


def test_draws_without_density_leave_contrasts_finite():
    model, flow = _mixture_pair(0.0, 0.5, 1.0)

    class Bounded(type(model)):
        def log_joint(self, z, x):
            inside = super().log_joint(z, x)
            return torch.where(z[..., 0] > 0, inside, -torch.inf)

    model.__class__ = Bounded
    rows = _slopes_by_contrasts(model, flow, lambda *row: contrast(model, flow, *row))
    assert bool(rows[:, 1:].isfinite().all())

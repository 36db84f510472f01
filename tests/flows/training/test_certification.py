"""Tests of flows.training.certification."""

import math

import pytest
import torch

from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.flow.structure import StateBlock, Structure
from flows.training import certification
from flows.training.batches import draw_batch
from flows.training.certification import (
    certify,
    certify_forward,
    ess_fractions,
    solver_bias,
)
from flows.training.losses import symmetric
from tests.flows.cnf.models import Circuit, LinearGaussian


def _pair(slope: float, scale: float):
    """Model z ~ N(0, 1), x ~ N(z, 1); proposal N(slope x, scale)."""
    model = LinearGaussian([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, 1.0], 1)
    structure = Structure((StateBlock("z", (0,), 1, (), (0,)),), 1)
    flow = build_flow(structure, FieldConfig(hidden=3, last_layer_scale=0.0))
    flow.normalisation.observed_coefficients[0] = slope
    flow.normalisation.residual_scale[0] = scale
    return model, flow


def test_certified_estimate_equals_the_closed_form_of_the_jeffreys_divergence():
    slope, scale = 0.4, 0.9
    model, flow = _pair(slope, scale)
    got = certify(model, flow, 4000, generator=torch.Generator().manual_seed(0))
    gap = 2.0 * (slope - 0.5) ** 2
    forward = math.log(scale / math.sqrt(0.5)) + (0.5 + gap) / (2 * scale**2) - 0.5
    reverse = math.log(math.sqrt(0.5) / scale) + (scale**2 + gap) / (2 * 0.5) - 0.5
    error = abs(got.symmetric.mean - (forward + reverse) / 2)
    assert error < 5 * got.symmetric.standard_error
    # the flow itself stays in its precision
    assert flow.field.bias.dtype == torch.float32


class _WithoutDensity:
    """Draws of a model, and nothing else of it."""

    has_density = False

    def __init__(self, model):
        self.model = model
        self.sample, self.unconstrain = model.sample, model.unconstrain

    def log_joint_free(self, free, observed):
        raise AssertionError("no density may be asked for")


def test_without_a_density_the_forward_kl_is_certified_up_to_the_entropy():
    slope, scale = 0.4, 0.9
    model, flow = _pair(slope, scale)
    got = certify_forward(
        _WithoutDensity(model), flow, 4000, generator=torch.Generator().manual_seed(0)
    )
    # E -log N(z; slope x, scale^2) with z - slope x ~ N(0, 1/2 + 2 (slope - 1/2)^2)
    second = 0.5 + 2.0 * (slope - 0.5) ** 2
    wanted = 0.5 * math.log(2 * math.pi * scale**2) + second / (2 * scale**2)
    assert abs(got.mean - wanted) < 5 * got.standard_error
    same = certify(model, flow, 4000, generator=torch.Generator().manual_seed(0))
    assert got.mean != same.forward.mean


def test_ess_is_one_for_the_posterior_and_has_its_closed_form_for_a_wide_proposal():
    generator = torch.Generator().manual_seed(1)
    model, flow = _pair(0.5, math.sqrt(0.5))
    got = ess_fractions(model, flow.in_steps(1), 5, 50, generator=generator)
    torch.testing.assert_close(got, torch.ones(5).double(), atol=1e-5, rtol=0)
    # posterior variance v, proposal variance s > v / 2, same mean:
    # 1 / E_q[w^2] = sqrt(v (2 s - v)) / s
    model, flow = _pair(0.5, 1.0)
    got = ess_fractions(model, flow.in_steps(1), 20, 20_000, generator=generator)
    wanted = math.sqrt(0.5 * (2.0 - 0.5)) / 1.0
    assert float(got.mean()) == pytest.approx(wanted, abs=0.01)


def test_doubling_the_steps_shows_the_bias_of_a_coarse_solver():
    structure = Circuit.structure(1)
    config = FieldConfig(hidden=6, last_layer_scale=3.0)
    flow = build_flow(structure, config).double()
    generator = torch.Generator().manual_seed(2)
    batch = draw_batch(Circuit(), flow, 50, generator=generator)
    flows = [flow.in_steps(n) for n in (2, 4, 16, 32)]
    coarse = solver_bias(Circuit(), *flows[:2], batch).difference
    fine = solver_bias(Circuit(), *flows[2:], batch).difference
    assert fine < coarse / 100


def test_rows_without_a_density_tell_nothing_of_the_solver(monkeypatch):
    """Rows that only one solve finishes do, but for a few."""
    rows = torch.linspace(0.0, 1.0, 400)

    def bulk(coarse, fine):
        terms = iter((coarse, fine))
        monkeypatch.setattr(certification, "symmetric", lambda *_: next(terms))
        return solver_bias(Circuit(), None, None, None).bulk

    gone = rows.masked_fill(rows < 0.1, torch.inf)
    assert bulk(gone + 0.25, gone) == pytest.approx(0.25)
    assert bulk(gone.nan_to_num(torch.nan, torch.nan), rows) == torch.inf
    assert math.isnan(bulk(rows / 0.0, rows / 0.0))


def test_bulk_bias_leaves_out_the_few_rows_that_differ_most():
    structure = Circuit.structure(1)
    flow = build_flow(structure, FieldConfig(hidden=6, last_layer_scale=3.0)).double()
    generator = torch.Generator().manual_seed(2)
    batch = draw_batch(Circuit(), flow, 400, generator=generator)
    got = solver_bias(Circuit(), flow.in_steps(2), flow.in_steps(4), batch)
    with torch.no_grad():
        coarse, fine = (symmetric(Circuit(), flow.in_steps(n), batch) for n in (2, 4))
    gaps = sorted((coarse - fine).tolist(), key=abs)[:398]
    assert got.bulk == pytest.approx(abs(sum(gaps)) / 398)
    assert got.coarse == pytest.approx(float(coarse.mean()))

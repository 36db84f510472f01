"""Tests of flows.inference.log_weight."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from scipy import stats

from flows.errors import InferenceError
from flows.inference.log_weight import checked_log_weights, log_weights
from flows.inference.proposal import ProposalDraw

from .targets import NormalChain

MODEL = NormalChain()
DATA = torch.tensor([0.5], dtype=torch.float64)


def draw_of(*values, log_prob=-1.25):
    latents = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    return ProposalDraw(
        latents, latents[:, :0], torch.full_like(latents[:, 0], log_prob)
    )


@pytest.mark.parametrize("form", [log_weights, checked_log_weights])
def test_a_log_weight_is_log_joint_less_the_density_of_the_proposal(form):
    expected = [
        stats.norm(0, 1).logpdf(z) + stats.norm(z, 0.7).logpdf(0.5) + 1.25
        for z in (0.3, -2.0)
    ]
    assert form(MODEL, draw_of(0.3, -2.0), DATA).tolist() == pytest.approx(expected)


def test_every_draw_may_have_data_of_its_own():
    both = torch.tensor([[0.5], [1.5]], dtype=torch.float64)
    found = checked_log_weights(MODEL, draw_of(0.3, 0.3), both)
    for row in range(2):
        alone = checked_log_weights(MODEL, draw_of(0.3), both[row])
        assert float(alone) == float(found[row])


@pytest.mark.parametrize("name", ["proposal", "target"])
def test_a_density_in_single_precision_is_refused(name):
    @dataclass(frozen=True)
    class Single(NormalChain):
        def log_joint(self, latents, observed):
            return super().log_joint(latents, observed).float()

    draw = draw_of(0.3)
    if name == "proposal":
        draw = replace(draw, log_prob=draw.log_prob.float())
    model = Single() if name == "target" else MODEL
    with pytest.raises(InferenceError, match=f"{name}: .* expected float64"):
        log_weights(model, draw, DATA)


def test_what_no_weight_may_be_is_refused_with_its_count_where_it_is_checked():
    @dataclass(frozen=True)
    class Broken(NormalChain):
        def log_joint(self, latents, observed):
            return latents[:, 0]

    draw = draw_of(math.nan, 0.0, math.inf, -math.inf)
    assert log_weights(Broken(), draw, DATA)[1] == 1.25
    with pytest.raises(InferenceError, match=r"a test: .* 1 nan and 1 \+inf among 4"):
        checked_log_weights(Broken(), draw, DATA, where="a test")
    with pytest.raises(InferenceError, match="density 0 for 1 of 1 draws"):
        checked_log_weights(MODEL, draw_of(0.0, log_prob=-math.inf), DATA)

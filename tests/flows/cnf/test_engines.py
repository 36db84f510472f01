"""Tests of flows.cnf.engines."""

from dataclasses import fields

import pytest
import torch

from flows.cnf import engines
from flows.cnf.engine import TorchEngine
from flows.cnf.engines import ENGINES, choose_engine
from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.flow.structure import StateBlock, Structure
from flows.training.losses import Batch, draw_batch, symmetric

from .models import Circuit, LinearGaussian

_STEPS = 40


def _scalar():
    """Z ~ N(0, 1), x ~ N(z, 1): one column, so that the paper's noise drops out."""
    model = LinearGaussian([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, 1.0], 1)
    return model, Structure((StateBlock("z", (0,), 0, (), (0,)),), 1)


EXACT = (
    ("auto", 1e-5, 1), ("fused", 1e-5, 1), ("adaptive", 1e-5, 4), ("adaptive", 1e-3, 1),
)  # fmt: skip
"""Engine, relative tolerance, factor on its steps."""
CASES = {
    "circuit": (Circuit(), Circuit.structure(2), EXACT),
    "scalar": (*_scalar(), (*EXACT, ("paper", 1e-5, 4))),
}


def _loss_and_gradients(model, structure, engine, dtype):
    """Mean J of a fixed batch and its gradients; weights far from their start."""
    flow = build_flow(structure, FieldConfig(hidden=6, last_layer_scale=0.5), seed=0)
    generator = torch.Generator().manual_seed(1)
    draws = model.sample(2000, generator=generator)
    flow.normalisation.fit(draws.latents, draws.observed)
    precise = flow.double()
    batch = draw_batch(model, precise, 20, generator=torch.Generator().manual_seed(2))
    batch = Batch(*(getattr(batch, f.name).to(dtype) for f in fields(batch)))
    flow.to(dtype)
    loss = symmetric(model, flow.solved_by(engine), batch).mean()
    loss.backward()
    gradients = [p.grad.double().reshape(-1) for p in flow.parameters()]
    return float(loss.detach()), torch.cat(gradients)


@pytest.mark.parametrize("case", CASES)
def test_all_engines_give_the_same_loss_and_gradients(case):
    """Float64 autograd through fixed steps is the oracle of the others.

    Within a relative 1e-5: the fused kernel in float32, the adjoint in float64 at a
    solver tolerance of 1e-8; at its own 1e-5, within 1e-3.
    """
    model, structure, others = CASES[case]
    loss, gradients = _loss_and_gradients(
        model, structure, TorchEngine(_STEPS), torch.float64
    )
    assert gradients.abs().max() > 0.1
    for name, allowed, sharper in others:
        engine = choose_engine(name)(_STEPS).with_steps(sharper)
        dtype = torch.float32 if name in ("auto", "fused") else torch.float64
        found = _loss_and_gradients(model, structure, engine, dtype)
        assert found[0] == pytest.approx(loss, rel=allowed, abs=allowed), name
        gap = (found[1] - gradients).abs().max() / gradients.abs().max()
        assert gap < allowed, name


def test_equal_rows_meet_equal_noise_in_the_papers_engine():
    model, structure = Circuit(), Circuit.structure(2)
    engine = choose_engine("paper")(1)
    assert not engine.is_exact
    losses = [
        _loss_and_gradients(model, structure, each, torch.float64)[0]
        for each in (engine, choose_engine("paper")(1), engine.with_steps(2))
    ]
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)
    exact = _loss_and_gradients(
        model, structure, choose_engine("adaptive")(1), torch.float64
    )
    assert abs(exact[0] - losses[0]) > 0.01


def test_without_numba_torch_takes_over_and_fused_is_refused(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert choose_engine("auto") is TorchEngine
    with pytest.raises(ValueError, match="fused needs Numba"):
        choose_engine("fused")


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match=f"expected one of {', '.join(ENGINES)}"):
        choose_engine("warp")

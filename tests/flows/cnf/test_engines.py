"""Tests of flows.cnf.engines."""

import pytest
import torch

from flows.cnf import engines
from flows.cnf.engine import TorchEngine
from flows.cnf.engines import choose_engine
from flows.cnf.flow import build_flow
from flows.cnf.structure import StateBlock, Structure
from flows.cnf.vector_field import FieldConfig


def test_the_automatic_engine_gives_the_densities_of_the_reference():
    blocks = (
        StateBlock("a", (0,), 2, (), (0,)),
        StateBlock("b", (1,), 2, (0,), (1,)),
    )
    flow = build_flow(Structure(blocks, 2), FieldConfig(hidden=4), seed=0)
    generator = torch.Generator().manual_seed(1)
    free, auxiliary, observed = (
        torch.randn(50, size, generator=generator) for size in (2, 4, 2)
    )
    values = [
        flow.log_prob(free, auxiliary, observed, engine=choose_engine(name)(6))
        for name in ("auto", "torch")
    ]
    assert torch.allclose(values[0], values[1], atol=1e-4)


def test_without_numba_torch_takes_over_and_fused_is_refused(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert choose_engine("auto") is TorchEngine
    with pytest.raises(ValueError, match="fused needs Numba"):
        choose_engine("fused")


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="expected one of auto, fused, torch"):
        choose_engine("warp")

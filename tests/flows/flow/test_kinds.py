"""Tests of flows.flow.kinds."""

import pytest
import torch

from flows.cnf.engine import AdaptiveEngine
from flows.cnf.vector_field import FieldConfig
from flows.errors import ArgumentError
from flows.flow.kinds import build_flow, certified, for_weights, kind_of, solved_with
from flows.flow.structure import StateBlock, Structure

STRUCTURE = Structure(
    (StateBlock("u", (0,), 1, (), (0,)), StateBlock("v", (1,), 0, (0,), (0,))), 1
)


def _flow(kind="cnf"):
    config = FieldConfig(hidden=6, last_layer_scale=20.0)
    return build_flow(STRUCTURE, config, kind=kind, seed=3)


def _rows(dtype):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(40, width, generator=generator).to(dtype) for width in (2, 1, 1)
    ]


def test_flow_for_weights_is_float64_and_exact_and_leaves_the_given_flow():
    flow = _flow()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    engine = flow.engine
    weighed = for_weights(flow, 1e-6)
    assert weighed.dtype == torch.float64
    with torch.no_grad():
        found = weighed.log_prob(*_rows(torch.float64))
        exact = _flow().double().solved_by(AdaptiveEngine(1e-9))
        wanted = exact.log_prob(*_rows(torch.float64))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert flow.dtype == torch.float32
    assert flow.engine is engine
    assert all(torch.equal(before[name], flow.state_dict()[name]) for name in before)


@pytest.mark.parametrize("make", [for_weights, certified])
def test_flow_for_weights_comes_back_itself_unless_the_tolerance_is_another(make):
    weighed = make(_flow(), 1e-6)
    assert make(weighed, 1e-6) is weighed
    assert make(weighed, 1e-7) is not weighed


def test_unchecked_float64_flow_is_not_taken_for_one_for_weights():
    coarse = _flow().double().in_steps(1)
    rows = _rows(torch.float64)
    with torch.no_grad():
        wanted = certified(_flow(), 1e-9).log_prob(*rows)
        apart = (coarse.log_prob(*rows) - wanted).abs().max()
        close = (for_weights(coarse).log_prob(*rows) - wanted).abs().max()
    assert float(apart) > 1e-3
    assert float(close) < 1e-4


def test_views_share_parameters_and_are_solved_on_their_own():
    flow = _flow()
    view = solved_with(flow, "torch").in_steps(2)
    assert all(
        a is b for a, b in zip(flow.parameters(), view.parameters(), strict=True)
    )
    assert view.engine.num_steps == 2
    assert flow.engine.num_steps == 10


def test_unknown_kind_and_config_of_another_kind_are_refused():
    with pytest.raises(ArgumentError, match=r"kind: unknown .* one of cnf.*; got spl"):
        kind_of("spline")
    with pytest.raises(ArgumentError, match=r"expected FieldConfig; got int"):
        build_flow(STRUCTURE, 3)

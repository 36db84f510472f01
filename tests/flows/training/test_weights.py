"""Tests of flows.training.weights, against the class of Adam that torch has."""

import copy

import pytest
import torch

from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.heads.building import headed_flow, headed_inverse, headed_structure
from flows.heads.networks import HeadsConfig
from flows.marginal.target import target_of
from flows.model.model import Model
from flows.training.weights import FlatWeights
from tests.flows.cnf.models import Circuit


def _flow():
    return build_flow(Circuit.structure(1), FieldConfig(hidden=3)).double()


def test_steps_are_those_of_adam_with_clipped_gradients_the_first_ones_shorter():
    flow = _flow()
    other = copy.deepcopy(flow)
    adam = torch.optim.Adam(other.parameters())
    weights = FlatWeights(flow)
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        rate = 0.1 / (1 + step)
        for mine, theirs in zip(flow.parameters(), other.parameters(), strict=True):
            noise = torch.randn(mine.shape, generator=generator, dtype=mine.dtype)
            mine.grad.copy_(noise * 10.0 ** -(step / 4))
            theirs.grad = noise * 10.0 ** -(step / 4)
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        adam.param_groups[0]["lr"] = rate * min(1.0, (1 + step) / 10)
        adam.step()
        assert weights.step(rate, 1.0, 0.9)
    for mine, theirs in zip(flow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_step_along_a_gradient_that_is_not_finite_changes_nothing(bad):
    weights = FlatWeights(_flow())
    weights.gradient.fill_(1.0)
    assert weights.step(0.1, 10.0, 0.9)
    before = weights.tensors()
    weights.gradient[3] = bad
    assert not weights.step(0.1, 10.0, 0.9)
    after = weights.tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_restored_weights_are_those_of_the_flow():
    flow = _flow()
    weights = FlatWeights(flow)
    before, kept = copy.deepcopy(flow.state_dict()), weights.tensors()
    weights.gradient.fill_(1.0)
    weights.step(0.1, 10.0, 0.9)
    assert not torch.equal(flow.field.bias, before["field.bias"])
    weights.restore(kept)
    assert all(torch.equal(before[n], flow.state_dict()[n]) for n in before)
    assert set(weights.fixed(flow)) == {n for n in before if "normalisation" in n}
    with pytest.raises(ValueError, match=r"weights.best is of another .*a tensor of"):
        weights.restore({**kept, "weights.best": torch.zeros(2)})


class _Slow(torch.nn.Module):
    def __init__(self, rate_share=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.inner = torch.nn.Linear(2, 1)
        if rate_share is not None:
            self.rate_share = rate_share


@pytest.mark.parametrize(
    ("before", "slowed"), [(0, 1 / 3000), (1499, 0.5), (9999, 1.0)]
)
def test_modules_with_a_share_of_the_rate_come_to_take_that_share(before, slowed):
    """All weights of such a module, and no others, after 3,000 steps."""
    mixed = torch.nn.ModuleDict({"slow": _Slow(0.25), "slower": _Slow(0.0)})
    mixed["whole"], plain = _Slow(), _Slow()
    begun = copy.deepcopy(mixed.state_dict())
    weights = FlatWeights(mixed)
    whole = FlatWeights(plain)
    for each in (weights, whole):
        each.restore({**each.tensors(), "weights.steps": torch.tensor(float(before))})
        each.gradient.fill_(0.1)
        each.step(0.5, 100.0, 0.9)
    moved = plain.weight.detach()
    assert float(moved.abs().min()) > 0.01
    for name, share in (("slow", 0.25), ("slower", 0.0), ("whole", 1.0)):
        taken = 1.0 - slowed * (1.0 - share)
        torch.testing.assert_close(mixed[name].weight.detach(), taken * moved)
        now = mixed[name].inner.bias.detach() - begun[f"{name}.inner.bias"]
        torch.testing.assert_close(now, taken * moved[:1])


def test_contexts_beside_heads_take_their_share_of_the_rate():
    data = " ".join(f"(observe (normal a (exp b)) {0.1 * i})" for i in range(8))
    program = f"""
    (let [a (sample (normal 0 1)) b (sample (normal 0 1)) k (sample (flip 0.3))]
      {data} (observe (normal (if k a b) 1) 0.2) [a b k])"""
    target = target_of(Model.from_program(program), sampled=("sample2",))
    structure, cells = headed_structure(
        target, headed_inverse(target), {}, num_draws=100, seed=0
    )
    flow = headed_flow(
        structure, cells, kind="autoregressive", config=None, heads=HeadsConfig(),
        seed=0,
    )  # fmt: skip
    weights = FlatWeights(flow)
    weights.restore({**weights.tensors(), "weights.steps": torch.tensor(1e4)})
    before = {name: p.detach().clone() for name, p in flow.named_parameters()}
    weights.gradient.fill_(0.1)
    weights.step(0.5, 100.0, 0.9)
    steps = {name: p.detach() - before[name] for name, p in flow.named_parameters()}
    whole = next(step for name, step in steps.items() if name.startswith("heads."))
    for name, step in steps.items():
        share = 0.25 if name.startswith("conditioner.contexts.") else 1.0
        torch.testing.assert_close(
            step, torch.full_like(step, share * float(whole.flatten()[0]))
        )
    assert any(name.startswith("conditioner.contexts.") for name in steps)

"""Tests that every tensor of training follows the flow's device.

No GPU is needed: torch's device `meta` computes shapes alone, and an operation on
tensors of two devices is refused as between a CPU and a GPU.
"""

import copy
from pathlib import Path

import pytest
import torch

from daphne_bridge.inversion.nami import invert
from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.training.batches import Batch
from flows.training.losses import (
    flow_matching,
    forward_kl,
    reverse_kl,
    symmetric,
    symmetric_path,
)

PROGRAMS = Path(__file__).parents[2] / "clj-programs"


class Unchecked:
    """The density of a model of real latents without its search for nan."""

    def __init__(self, model):
        self.model = model

    def log_joint_free(self, free, observed):
        count, sources = len(free), [free.t(), observed.t()]
        joint = self.model.densities.joint
        (total,) = joint.run(sources, num_rows=count, like=free)
        return total.reshape(count)


@pytest.fixture(scope="module")
def parts():
    model = Model.compile(PROGRAMS / "arithmetic_circuit.daphne")
    draws = model.sample(4, generator=torch.Generator().manual_seed(0))
    model.log_joint_free(model.unconstrain(draws.latents)[0], draws.observed)
    structure = build_structure(invert(model.graph), model.layout, 1)
    flow = build_flow(structure, FieldConfig(hidden=3)).solved_by(TorchEngine(2))
    return model, flow


def elsewhere(flow):
    """A copy of the flow, and a batch, on the device `meta`."""
    flow = copy.deepcopy(flow).to("meta")
    structure = flow.structure

    def columns(*shape):
        return torch.zeros(4, *shape, device="meta")

    batch = Batch(
        free=columns(structure.free_dim),
        nuisances=columns(structure.nuisance_dim),
        observed=columns(structure.observed_dim),
        log_joint=columns(),
        base=columns(structure.state_dim),
    )
    return flow, batch


@pytest.mark.parametrize("loss", [forward_kl, reverse_kl, symmetric, symmetric_path])
def test_losses_and_their_gradients_stay_on_the_device(parts, loss):
    flow, batch = elsewhere(parts[1])
    terms = loss(Unchecked(parts[0]), flow, batch)
    terms.sum().backward()
    assert terms.device.type == "meta"
    assert {p.grad.device.type for p in flow.parameters()} == {"meta"}


def test_flow_matching_stays_on_the_device(parts):
    flow, batch = elsewhere(parts[1])
    terms = flow_matching(flow, batch, torch.zeros(4, device="meta"))
    terms.sum().backward()
    assert terms.device.type == "meta"


def test_tensors_of_two_devices_would_be_found(parts):
    flow, batch = elsewhere(parts[1])
    with pytest.raises(RuntimeError, match="device"):
        flow_matching(flow, batch, torch.zeros(4))

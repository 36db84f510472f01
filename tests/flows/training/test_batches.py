"""Tests of flows.training.batches."""

import math

import pytest
import torch

from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.errors import FlowsError
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.training.batches import Judged, draw_batch
from tests.flows.cnf.models import Circuit


def test_batch_holds_the_joint_density_of_its_rows():
    model = Circuit()
    flow = build_flow(Circuit.structure(1), FieldConfig(hidden=3)).double()
    batch = draw_batch(model, flow, 7, generator=torch.Generator().manual_seed(0))
    normal = -0.5 * batch.nuisances.square() - 0.5 * math.log(2 * math.pi)
    wanted = model.log_joint(batch.free, batch.observed) + normal.sum(-1)
    torch.testing.assert_close(batch.log_joint, wanted)
    part = batch.rows(2, 4)
    assert torch.equal(part.observed, batch.observed[2:4])


def test_batch_of_a_bounded_latent_holds_the_density_of_its_free_coordinates():
    text = "(let [s (sample (gamma 2 3))] (observe (normal 0 s) 0.4) s)"
    model = Model.from_program(text)
    structure = build_structure(invert(model.graph), model.layout)
    flow = build_flow(structure, FieldConfig(hidden=3)).double()
    batch = draw_batch(model, flow, 50, generator=torch.Generator().manual_seed(0))
    wanted = model.log_joint_free(batch.free, batch.observed)
    torch.testing.assert_close(batch.log_joint, wanted)


def test_a_flow_may_draw_what_has_no_meaning_and_the_model_may_not():
    text = "(let [x (sample (normal 0 1))] (observe (exponential (exp x)) 2) x)"
    model = Model.from_program(text)
    judged = Judged.of(model)
    # The exponential of the second is 0 in every precision.
    free = torch.tensor([[0.5], [-1000.0]], dtype=torch.float64)
    data = torch.tensor([[2.0], [2.0]], dtype=torch.float64)
    found = judged.log_joint_free(free, data)
    wanted = -0.125 - 0.5 * math.log(2 * math.pi) + 0.5 - 2 * math.exp(0.5)
    assert found.tolist() == [pytest.approx(wanted), -math.inf]
    with pytest.raises(FlowsError, match="rate"):
        judged.log_joint(free, data)
    circuit = Circuit()
    assert Judged.of(circuit).judge is circuit

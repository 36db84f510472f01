"""Tests of flows.model.data_backed."""

import numpy as np
import pytest
import torch

from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.errors import ModelError
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.data_backed import DataBackedModel
from flows.model.model import Model
from flows.training.config import TrainingConfig
from flows.training.loop import fit

from .programs import graph_of

PROGRAM = """
(let [a (sample (normal 0 1))
      b (foreach 2 [] (sample (normal 0 1)))
      c (sample (normal (* 3 a) 0.5))]
  (observe (normal (+ (first b) c) 0.1) 0.0)
  a)"""


@pytest.fixture
def model():
    return Model.from_graph(graph_of(PROGRAM))


def arrays():
    return {"a": np.array([-5.0, 5.0]), "b": np.array([[1.0, 2.0], [3.0, 4.0]])}


def columns(model):
    return {v.label: v.start for v in model.layout.latents}


def test_latents_of_the_table_come_row_by_row_and_the_others_from_the_program(model):
    backed = DataBackedModel.from_arrays(model, arrays(), "t.npz")
    generator = torch.Generator().manual_seed(0)
    num = 20_000
    draws = backed.sample(num, generator=generator)
    place = columns(model)
    a, b0, b1, c = (draws.latents[:, place[n]] for n in ("a", "b[0]", "b[1]", "c"))
    rows = torch.stack([a, b0, b1], 1).unique(dim=0)
    assert rows.tolist() == [[-5.0, 1.0, 2.0], [5.0, 3.0, 4.0]]
    # half of the rows each, within five standard errors
    assert abs(float((a > 0).double().mean()) - 0.5) < 5 * 0.5 / num**0.5
    noise = c - 3.0 * a
    assert abs(float(noise.mean())) < 5 * 0.5 / num**0.5
    assert abs(float(noise.std()) - 0.5) < 5 * 0.5 / (2 * num) ** 0.5
    seen = draws.observed[:, 0] - b0 - c
    assert abs(float(seen.mean())) < 5 * 0.1 / num**0.5
    assert abs(float(seen.std()) - 0.1) < 5 * 0.1 / (2 * num) ** 0.5


def test_rows_that_are_asked_for_come_in_their_order(model):
    backed = DataBackedModel.from_arrays(model, arrays(), "t.npz")
    rows = torch.tensor([1, 0, 0])
    draws = backed.sample_at(rows, generator=torch.Generator().manual_seed(0))
    assert draws.latents[:, columns(model)["a"]].tolist() == [5.0, -5.0, -5.0]


def test_everything_that_needs_a_density_is_refused_with_the_reason(model):
    backed = DataBackedModel.from_arrays(model, arrays(), "t.npz")

    assert model.has_density
    assert not backed.has_density
    draws = backed.sample(3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match=r"have no density.*forward objective"):
        backed.log_joint_free(draws.latents, draws.observed)
    structure = build_structure(invert(model.graph), model.layout)
    flow = build_flow(structure, FieldConfig(hidden=2))
    for objective in ("symmetric", "reverse"):
        config = TrainingConfig(objective=objective)
        with pytest.raises(ValueError, match=f"expected forward; got {objective}"):
            fit(backed, flow, config, seed=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"q": np.zeros(2)}, "t.npz, q: no latent of this name"),
        ({"c": np.zeros(2)}, "c depends on other nodes"),
        ({"a": np.zeros((2, 3))}, "wrong number of columns"),
        ({"a": np.array([0.0, np.nan])}, "not finite"),
        ({"a": np.zeros(0)}, "no rows"),
        ({"a": np.zeros(3)}, "numbers of rows differ"),
        ({"a": np.array(["x", "y"])}, "not numbers"),
        ({"b[0]": np.zeros(2)}, "has two arrays"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(model, change, sentence):
    with pytest.raises(ModelError) as caught:
        DataBackedModel.from_arrays(model, {**arrays(), **change}, "t.npz")
    assert sentence in str(caught.value)


def test_no_array_at_all_is_refused(model):
    with pytest.raises(ModelError, match="no array"):
        DataBackedModel.from_arrays(model, {}, "t.npz")

"""Tests of flows.integrated.choice: where integrating latents out pays."""

import pytest

from flows.integrated.choice import integrated_where_it_pays
from flows.integrated.target import IntegratedModel
from flows.model.model import Model
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR


@pytest.mark.parametrize("text", [CIRCUIT, GROUPS])
def test_models_that_are_not_linear_are_integrated(text):
    found = integrated_where_it_pays(Model.from_program(text))
    assert isinstance(found, IntegratedModel)


def test_a_linear_model_stays_as_its_affine_layer_is_exact():
    model = Model.from_program(LINEAR)
    assert integrated_where_it_pays(model) is model


def test_a_model_of_which_hardly_anything_would_go_stays():
    names = " ".join(f"w{i} (sample (normal 0 1))" for i in range(6))
    total = " ".join(f"w{i}" for i in range(6))
    model = Model.from_program(
        f"(let [{names}] (observe (normal (tanh (+ {total})) 0.1) 0.3) w0)"
    )
    assert integrated_where_it_pays(model) is model

"""Tests of flows.integrated.choice: where integrating latents out pays."""

import pytest

from flows.integrated.choice import integrated_where_it_pays
from flows.integrated.target import IntegratedModel
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR, model_of


@pytest.mark.parametrize("text", [CIRCUIT, GROUPS])
def test_models_that_are_not_linear_are_integrated(text):
    found = integrated_where_it_pays(model_of(text))
    assert isinstance(found, IntegratedModel)


def test_a_linear_model_stays_as_its_affine_layer_is_exact():
    model = model_of(LINEAR)
    assert integrated_where_it_pays(model) is model


def test_a_model_of_which_hardly_anything_would_go_stays():
    names = " ".join(f"w{i} (sample (normal 0 1))" for i in range(6))
    total = " ".join(f"w{i}" for i in range(6))
    model = model_of(
        f"(let [{names}] (observe (normal (tanh (+ {total})) 0.1) 0.3) w0)"
    )
    assert integrated_where_it_pays(model) is model

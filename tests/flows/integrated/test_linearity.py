"""Tests of flows.integrated.linearity: models whose posterior is normal."""

import pytest

from flows.integrated.conditionals import conditionals_of
from flows.integrated.linearity import is_linear_normal, normal_ones
from flows.model.model import Model
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR


def test_sums_of_latents_times_data_are_linear():
    assert is_linear_normal(Model.from_program(LINEAR).graph)
    text = """
        (let [w (sample (normal 0 1)) b (sample (normal 0 2))
              x (observe (normal 0 1) 0.3)]
          (observe (normal (+ b (* (/ (- w 1) 2) x)) (exp x)) 1.1)
          w)"""
    assert is_linear_normal(Model.from_program(text).graph)


@pytest.mark.parametrize("text", [CIRCUIT, GROUPS])
def test_products_of_latents_and_other_functions_are_not(text):
    assert not is_linear_normal(Model.from_program(text).graph)


@pytest.mark.parametrize(
    "link",
    [
        "(normal (* a a) 1)",
        "(normal (/ 1 a) 1)",
        "(normal (/ a) 1)",
        "(normal 0 (abs a))",
    ],
)
def test_one_factor_that_is_not_linear_is_enough(link):
    text = f"(let [a (sample (normal 0 1))] (observe {link} 1) a)"
    assert not is_linear_normal(Model.from_program(text).graph)


def test_a_latent_of_another_family_is_enough():
    text = "(let [a (sample (laplace 0 1))] (observe (normal a 1) 1) a)"
    assert not is_linear_normal(Model.from_program(text).graph)


@pytest.mark.parametrize(
    ("program", "is_one"),
    [
        ("(let [u {u} z (sample (normal (exp u) u))] (observe {x}) z)", True),
        ("(let [u {u} z (sample (laplace u u))] (observe {x}) z)", False),
        ("(let [u {u} z (sample (normal (exp u) u))] (observe {square}) z)", False),
        ("(let [u {u} z (sample (normal (exp u) u))] (observe {scale}) z)", False),
        ("(let [u {u} z (sample (normal u 1))] (observe {counts}) z)", False),
    ],
)
def test_a_conditional_is_normal_if_its_factors_are_so_in_its_own_latent(
    program, is_one
):
    text = program.format(
        u="(sample (gamma 2 2))",
        x="(normal (* (- z 1) (tanh u)) (sqrt u)) 0.3",
        square="(normal (* z z u) u) 0.3",
        scale="(normal z (exp z)) 0.3",
        counts="(poisson (exp z)) 2",
    )
    model = Model.from_program(text)
    (name,) = (v.name for v in model.layout.latents_named("z"))
    found = conditionals_of(model.graph, model.layout, (name,))
    assert normal_ones(model.graph, found) == ({name} if is_one else set())
    assert not is_linear_normal(model.graph)

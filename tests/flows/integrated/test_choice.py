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


def test_a_model_whose_grids_cost_more_than_they_bring_stays():
    names = " ".join(f"w{i} (sample (normal 0 1))" for i in range(100))
    total = " ".join(f"w{i}" for i in range(100))
    model = Model.from_program(
        f"(let [{names}] (observe (normal (tanh (+ {total})) 0.1) 0.3) w0)"
    )
    assert integrated_where_it_pays(model) is model


def test_of_two_factors_of_a_product_the_one_far_from_nothing_is_kept():
    """Given the product, that of one which changes sign has two modes."""
    model = Model.from_program(CIRCUIT)
    near_five, changes_sign = model.graph.latents[:2]
    names = integrated_where_it_pays(model).integrated
    assert changes_sign in names
    assert near_five not in names


def test_the_slope_of_counts_is_integrated_out_whatever_the_order():
    """It bends its conditional more than the level does."""
    for first, second in (("level", "slope"), ("slope", "level")):
        data = " ".join(
            f"(observe (poisson (exp (+ level (* {x} slope)))) 3)" for x in (-2, 0, 2)
        )
        model = Model.from_program(
            f"(let [{first} (sample (normal 0 1)) {second} (sample (normal 0 1))]"
            f" {data} level)"
        )
        slope = model.graph.latents[(first, second).index("slope")]
        assert integrated_where_it_pays(model).integrated == (slope,)


def test_a_chain_that_an_affine_layer_describes_stays():
    model = Model.from_program("""
        (let [a (sample (normal 0 1)) b (sample (normal (* 0.9 a) 0.3))
              c (sample (normal (* 0.9 b) 0.3))]
          (observe (normal 0 (exp (* 0.1 a))) 0.4)
          (observe (normal 0 (exp (* 0.1 b))) 0.2)
          (observe (normal 0 (exp (* 0.1 c))) -0.3)
          c)""")
    assert integrated_where_it_pays(model) is model


def test_what_nothing_reads_takes_no_other_latent_with_it():
    model = Model.from_program("""
        (let [a (sample (normal 0 1)) b (sample (normal a 1)) c (sample (normal b 1))
              u (sample (normal (tanh c) 1))]
          (observe (normal a 1) 0.4) (observe (normal b 1) 0.1)
          (observe (normal c 1) 0.2)
          [c u])""")
    assert integrated_where_it_pays(model).integrated == model.graph.latents[-1:]


def test_a_wide_vector_is_not_evaluated_at_all_points_of_a_grid():
    """Each would take the root of a covariance of 20 columns."""
    rows = " ".join(
        "[" + " ".join("1.5" if i == j else "0.5" for j in range(20)) + "]"
        for i in range(20)
    )
    mean = " ".join("(tanh a)" for _ in range(20))
    model = Model.from_program(
        f"(let [a (sample (normal 0 1)) b (sample (normal (* a a) 1))]"
        f" (observe (mvn [{mean}] [{rows}]) [{' '.join('0.1' for _ in range(20))}])"
        " (observe (normal (* a b) 1) 0.3) a)"
    )
    _, given_a_normal = model.graph.latents
    assert integrated_where_it_pays(model).integrated == (given_a_normal,)


def of_groups(count, family="normal"):
    """Effects of groups, of each of which two numbers are known."""
    data = " ".join(str(0.1 * (i % 7)) for i in range(2 * count))
    return Model.from_program(f"""
        (let [y [{data}] mu (sample (normal 0 2)) tau (sample (gamma 2 2))
              sd (sample (gamma 2 2))
              theta (foreach {count} [] (sample ({family} mu tau)))]
          (foreach {count} [t theta] (observe (normal t sd) 0.3))
          (foreach {2 * count} [v y i (range {2 * count})]
            (observe (normal (get theta (mod i {count})) sd) v))
          mu)""")


def test_effects_of_many_groups_go_if_they_are_normal_given_the_others():
    model = of_groups(60)
    found = integrated_where_it_pays(model)
    assert isinstance(found, IntegratedModel)
    kept = [variable.label for variable in found.layout.latents]
    assert sorted(kept) == ["sd", "tau"]
    other = of_groups(60, "laplace")
    assert integrated_where_it_pays(other) is other
    too_many = of_groups(600)
    assert integrated_where_it_pays(too_many) is too_many


@pytest.mark.parametrize(("count", "go"), [(200, True), (2_000, False)])
def test_weights_of_a_regression_go_together_where_data_are_not_too_many(count, go):
    weights = 12
    terms = " ".join(f"(* w{j} (get x (+ i {j})))" for j in range(weights))
    names = " ".join(f"w{j} (sample (normal 0 1))" for j in range(weights))
    data = " ".join(str(0.1 * (i % 11)) for i in range(count + weights))
    model = Model.from_program(f"""
        (let [x [{data}] {names} sd (sample (gamma 2 2))]
          (foreach {count} [i (range {count})] (observe (normal (+ {terms}) sd) 0.3))
          w0)""")
    found = integrated_where_it_pays(model)
    assert isinstance(found, IntegratedModel) == go
    if go:
        assert [variable.label for variable in found.layout.latents] == ["sd"]

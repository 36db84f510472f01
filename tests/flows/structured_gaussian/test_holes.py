"""Tests of flows.structured_gaussian.holes: what is one predictor, and one form."""

from flows.model.model import Model
from flows.structured_gaussian.bilinear import Columns
from flows.structured_gaussian.holes import holes_of


def holes(*observes):
    model = Model.from_program(f"""
    (let [a (sample (normal 0 1))
          b (sample (normal 0 1))
          s (sample (exponential 1))]
      {" ".join(f"(observe {each} 0.5)" for each in observes)})
    """)
    columns = Columns.of(model.graph, model.layout)
    count = len(observes)
    return [holes_of(node, columns) for node in model.graph.nodes[-count:]]


def test_largest_linear_part_is_one_predictor_wherever_it_stands():
    (found,) = holes("(normal (exp (+ a (* 2 b))) (+ 1 (exp (+ a (* 2 b)))))")
    assert found.predictors == ({(0, None): 1.0, (1, None): 2.0},)


def test_latent_with_bounds_is_a_predictor_in_its_free_coordinate():
    (found,) = holes("(normal a s)")
    assert found.predictors == ({(0, None): 1.0}, {(2, None): 1.0})


def test_other_numbers_around_the_predictor_make_another_form():
    one, two, other = holes(
        "(laplace (* 3 a) 1)", "(laplace (- a b) 1)", "(laplace a 2)"
    )
    assert one.form == two.form != other.form

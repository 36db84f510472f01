"""Tests of flows.structured_gaussian.configurations: what is a mixture of normals."""

import math

import pytest

from flows.errors import ArgumentError
from flows.marginal.target import target_of
from flows.model.model import Model
from flows.structured_gaussian.configurations import mixture_potentials


def read(program):
    model = Model.from_program(program)
    return mixture_potentials(model.graph, target_of(model).layout)


def test_configurations_of_mass_are_components_with_their_probabilities():
    found = read("""
    (let [k (sample (discrete [0.3 0 0.7]))
          j (sample (flip (if (= k 0) 0.25 0.5)))
          a (sample (normal (if j k 5) 2))]
      (observe (normal a 1) 0.5)
      (observe (normal k 3) 0.5))
    """)
    priors = [math.exp(each.constant) for each in found if not each.predictors]
    assert priors == pytest.approx([0.225, 0.075, 0.35, 0.35])
    assert {each.component for each in found} == {0, 1, 2, 3}
    # a's prior, and the two of data, of which one reads no continuous latent
    assert [len(each.latents) for each in found[:4]] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(observe (poisson (if k (exp a) 2)) 3)", "not linear and normal given"),
        ("(observe (normal (* a a (if k 1 2)) 1) 3)", "not linear and normal given"),
        ("(observe (normal (if (sample (flip (exp (- (* a a))))) a 0) 1) 3)",
         "probabilities of a discrete latent depend"),
        ("(observe (normal (+ a (sample (uniform-discrete 0 40))) 1) 3)",
         "too many configurations"),
    ],
)  # fmt: skip
def test_other_models_are_refused_in_a_sentence(body, message):
    with pytest.raises(ArgumentError, match=message):
        read(f"""
        (let [k (sample (flip 0.3)) a (sample (normal 0 1))]
          (observe (normal (if k a 0) 1) 0.5)
          {body})
        """)

"""Tests of flows.front.particle_figures."""

import pytest
import torch

from flows.front.particle_figures import with_figures
from flows.inference.columns import latent_columns
from flows.inference.particles import Particles
from flows.model.model import Model
from tests.flows.model.programs import graph_of

TEXT = """
(let [c (sample (categorical [[:red 0.5] [:blue 0.5]]))
      v (sample (categorical [[10 0.5] [20 0.5]]))
      k (sample (poisson 3))
      x (sample (normal 0 1))]
  (observe (normal x 1) 0.5)
  {:sum (+ k v) :colour c :one 1})"""


def described(weights):
    model = Model.from_graph(graph_of(TEXT))
    rows = torch.tensor(
        [[0.0, 0.0, 3.0, 0.5], [1.0, 1.0, 4.0, 1.5]], dtype=torch.float64
    )
    particles = Particles.from_draws(
        rows, torch.tensor(weights).double().log(), latent_columns(model.layout)
    )
    summary = particles.summary().to_json()
    return summary, with_figures(summary, model, particles, model.observation())


def test_discrete_latents_have_probabilities_and_numeric_categories_their_mean():
    before, found = described([1.0, 3.0])
    assert found["probabilities"]["c"] == pytest.approx({":red": 0.25, ":blue": 0.75})
    assert found["probabilities"]["k"] == pytest.approx({"3": 0.25, "4": 0.75})
    latents = {each["label"]: each for each in found["latents"]}
    assert latents["c"]["mean"] is None
    assert latents["v"]["mean"] == pytest.approx(17.5)
    assert latents["x"] == next(e for e in before["latents"] if e["label"] == "x")


def test_the_return_value_has_its_own_shape():
    _, found = described([1.0, 3.0])
    assert found["return"]["one"] == 1
    assert found["return"]["sum"]["mean"] == pytest.approx(0.25 * 13 + 0.75 * 24)
    assert found["return"]["colour"]["probabilities"][":blue"] == pytest.approx(0.75)


def test_nothing_is_said_of_particles_without_weight():
    _, found = described([0.0, 0.0])
    assert (found["probabilities"], found["return"]) == ({}, None)


def test_a_latent_of_too_many_values_to_show_has_no_probabilities():
    # Seen: a failure, "KeyError: 'probabilities'".
    text = "(let [k (sample (poisson 900))] (observe (normal k 30) 900) k)"
    model = Model.from_graph(graph_of(text))
    rows = torch.arange(700, 1100, dtype=torch.float64).unsqueeze(1)
    particles = Particles.from_draws(
        rows, torch.zeros(400).double(), latent_columns(model.layout)
    )
    found = with_figures(
        particles.summary().to_json(), model, particles, model.observation()
    )
    assert found["probabilities"] == {}
    assert found["return"]["mean"] == pytest.approx(899.5)

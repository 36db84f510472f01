"""Tests of flows.model.sampling."""

import math

import pytest
import torch

from flows.model.model import Model

from ...exact import joint_gaussian
from .programs import (
    draws_of,
    generator_of,
    graph_of,
    model_of,
)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
def test_draws_of_a_linear_gaussian_model_have_its_moments(name):
    graph, model = model_of(name)
    num = 20_000
    draws = draws_of(model, num)
    oracle = joint_gaussian(graph)
    columns = {
        **dict(zip(graph.latents, draws.latents.T, strict=True)),
        **dict(zip(graph.observed, draws.observed.T, strict=True)),
    }
    drawn = torch.stack([columns[name] for name in oracle.mean])
    variance = torch.tensor(oracle.covariance).diagonal()
    mean = torch.tensor(list(oracle.mean.values()))
    assert ((drawn.mean(1) - mean).abs() <= 5 * (variance / num).sqrt()).all()
    scale = variance.sqrt()
    error = (torch.cov(drawn) - torch.tensor(oracle.covariance)).abs()
    assert (error <= 5 * math.sqrt(2 / num) * scale[:, None] * scale).all()


def test_latents_that_read_data_are_drawn_and_scored_given_it():
    graph = graph_of(
        """
        (let [x (sample (normal 0 1))
              y (observe (normal x 1) 2.0)
              z (sample (normal y 0.001))]
          (observe (normal z 1) 3.0))"""
    )
    model = Model.from_graph(graph)
    given = torch.tensor([50.0, 0.0], dtype=torch.float64)
    latents = model.sample_latents(20, generator=generator_of(), observed=given)
    assert ((latents[:, 1] - 50).abs() < 0.01).all()
    terms = model.log_prior_terms(latents, given).sum(-1)
    assert torch.allclose(model.log_prior(latents, given), terms)
    assert (model.log_prior(latents) < -1e6).all()
    free = model.sample_latents(20, generator=generator_of())
    assert (free[:, 1].abs() < 10).all()


def test_given_values_stay_and_the_others_are_drawn_given_their_parents():
    """A chain a -> b -> y: given b, y follows it and a is a prior draw."""
    graph = graph_of(
        """
        (let [a (sample (normal 3 2))
              b (sample (normal (* 2 a) 1))]
          (observe (normal b 0.5) 1.0)
          a)"""
    )
    model = Model.from_graph(graph)
    num = 20_000
    b = torch.linspace(-5, 5, num, dtype=torch.float64).unsqueeze(1)
    draws = model.sample_given({"b": b}, generator=generator_of())
    assert torch.equal(draws.latents[:, 1:], b)
    # Means and deviations within five standard errors.
    for values, mean, sd in (
        (draws.latents[:, 0], 3.0, 2.0),
        (draws.observed[:, 0] - b[:, 0], 0.0, 0.5),
    ):
        assert abs(float(values.mean()) - mean) < 5 * sd / num**0.5
        assert abs(float(values.std()) - sd) < 5 * sd / (2 * num) ** 0.5
    assert abs(float(torch.corrcoef(torch.cat([draws.latents, b], 1).T)[0, 1])) < 0.04
    both = {"sample0": torch.ones_like(b), "b": b}
    assert torch.equal(
        model.sample_given(both, generator=generator_of()).latents,
        torch.cat(list(both.values()), 1),
    )


def test_more_latents_are_drawn_beside_those_that_are_there():
    graph = graph_of(
        """
        (let [a (sample (normal 3 2))
              b (sample (normal (* 2 a) 1))
              c (sample (normal b 0.5))]
          (observe (normal c 0.5) 1.0)
          a)"""
    )
    model = Model.from_graph(graph)
    _, b, c = graph.latents
    num = 20_000
    latents = torch.full((num, 3), 7.0, dtype=torch.float64)
    latents[:, 0] = torch.linspace(-5, 5, num)
    data = model.observation()
    drawn = model.sample_more([b, c], latents, data, generator=generator_of())
    assert torch.equal(drawn[:, 0], latents[:, 0])
    assert (latents[:, 1:] == 7.0).all()
    # Means and deviations within five standard errors.
    for values, sd in (
        (drawn[:, 1] - 2 * latents[:, 0], 1.0),
        (drawn[:, 2] - drawn[:, 1], 0.5),
    ):
        assert abs(float(values.mean())) < 5 * sd / num**0.5
        assert abs(float(values.std()) - sd) < 5 * sd / (2 * num) ** 0.5
    last = model.sample_more([c], drawn, data, generator=generator_of())
    assert torch.equal(last[:, :2], drawn[:, :2])


@pytest.mark.parametrize("shapes", [{}, {"a": (3,)}, {"a": (3, 2)}, {"a": (0, 0)}])
def test_given_values_of_the_wrong_shape_are_refused(shapes):
    model = Model.from_graph(graph_of("(let [a (sample (normal 3 2))] a)"))
    values = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="given values"):
        model.sample_given(values, generator=generator_of())


def test_a_draw_in_a_branch_without_meaning_is_not_drawn():
    graph = graph_of(
        """
        (let [s (sample (normal 0 1))
              x (sample (if (> s 0) (normal 0 s) (laplace 0 1)))]
          x)"""
    )
    draws = Model.from_graph(graph).sample(500, generator=generator_of())
    assert torch.isfinite(draws.latents).all()


def test_one_seed_gives_one_set_of_draws_and_global_randomness_stays():
    _, model = model_of("bounds")
    before = torch.random.get_rng_state()
    first, second = draws_of(model), draws_of(model)
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.observed, second.observed)
    assert not torch.equal(first.latents, draws_of(model, seed=4).latents)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_have_the_type_that_is_asked_for():
    _, model = model_of("bounds", dtype=torch.float32)
    assert draws_of(model).latents.dtype == torch.float32
    wide = model.sample(2, generator=generator_of(), dtype=torch.float64)
    assert wide.observed.dtype == torch.float64
    assert model.observation().dtype == torch.float32

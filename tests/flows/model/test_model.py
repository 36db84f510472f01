"""Tests of flows.model.model."""

import json
import math
from pathlib import Path

import pytest
import torch

from daphne_bridge.errors import BridgeError
from daphne_bridge.graph.document import document_from_json, load_document
from daphne_bridge.graph.graph import Graph
from flows.errors import ModelError
from flows.model.capabilities import capabilities
from flows.model.model import Model

from ...exact import enumerate_states, joint_gaussian
from .interpreter import log_terms, values_of_row
from .programs import PROGRAMS, graph_of

GOLDEN = Path(__file__).parents[2] / "golden" / "programs"
CONTINUOUS = [
    name for name in PROGRAMS if name not in ("mixture", "branches", "colours")
]


def _model(name, **options):
    graph = graph_of(PROGRAMS[name])
    return graph, Model.from_graph(graph, **options)


def _generator(seed=3):
    return torch.Generator().manual_seed(seed)


def _draws(model, num=6, seed=3):
    return model.sample(num, generator=_generator(seed))


def _document(links, data=None):
    parts = {"V": list(links), "A": {}, "P": links, "Y": data or {}}
    return Graph.from_document(document_from_json([{}, parts, None], "test.json"))


def _assert_interpreted(graph, model, latents, observed):
    """Assert that joint, prior and every term are those of the interpreter."""
    joint = model.log_joint(latents, observed)
    terms = model.log_likelihood_terms(latents, observed)
    prior_terms = model.log_prior_terms(latents, observed)
    likelihood = model.log_likelihood(latents, observed)
    for row in range(len(latents)):
        values = values_of_row(graph, model.layout, latents[row], observed[row])
        expected = log_terms(graph, values)
        by_node = [expected[name] for name in graph.observed]
        by_latent = [expected[name] for name in graph.latents]
        assert terms[row].tolist() == pytest.approx(by_node, rel=1e-9, abs=1e-9)
        assert prior_terms[row].tolist() == pytest.approx(by_latent, rel=1e-9, abs=1e-9)
        total = math.fsum(by_node)
        assert float(likelihood[row]) == pytest.approx(total, rel=1e-9, abs=1e-9)
        total += math.fsum(by_latent)
        assert float(joint[row]) == pytest.approx(total, rel=1e-9, abs=1e-9)


# ------------------------------------------------------------------ against oracles


@pytest.mark.parametrize("name", PROGRAMS)
def test_densities_are_those_of_the_node_by_node_interpreter(name):
    graph, model = _model(name)
    draws = _draws(model)
    _assert_interpreted(graph, model, draws.latents, draws.observed)
    given = model.observation().expand(6, -1)
    _assert_interpreted(graph, model, draws.latents, given)


def _golden():
    found = []
    for path in sorted(GOLDEN.glob("*.json")):
        try:
            graph = Graph.from_document(load_document(path))
        except BridgeError:
            continue
        if graph.nodes:
            found.append(pytest.param(graph, id=path.stem))
    return found


REFUSED = {"q_map_values"}
"""Documents whose observation is no draw of its distribution."""

UNDEFINED = {"dist_continuous"}
"""Programs that draw from a distribution with a negative scale in half of the rows."""


@pytest.mark.parametrize("graph", _golden())
def test_densities_hold_on_every_document_of_the_original(graph):
    stem = Path(graph.source).stem
    if stem in REFUSED:
        with pytest.raises(ModelError, match="none of the values of categorical"):
            Model.from_graph(graph)
        return
    model = Model.from_graph(graph)
    if stem in UNDEFINED:
        with pytest.raises(ModelError, match="scale of student-t-loc-scale"):
            model.sample(50, generator=_generator())
        latents = model.sample_latents(200, generator=_generator())
        column = model.layout.variable("sample13").start
        latents = latents[latents[:, column] > 0][:4]
        _assert_interpreted(graph, model, latents, model.observation().expand(4, -1))
        return
    draws = _draws(model, 3)
    _assert_interpreted(graph, model, draws.latents, draws.observed)
    given = model.observation().expand(3, -1)
    _assert_interpreted(graph, model, draws.latents, given)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
def test_a_linear_gaussian_joint_is_one_normal_vector(name):
    graph, model = _model(name)
    draws = _draws(model)
    oracle = joint_gaussian(graph)
    found = model.log_joint(draws.latents, draws.observed)
    for row in range(6):
        values = values_of_row(
            graph, model.layout, draws.latents[row], draws.observed[row]
        )
        assert float(found[row]) == pytest.approx(oracle.log_joint(values), rel=1e-9)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
def test_draws_of_a_linear_gaussian_model_have_its_moments(name):
    graph, model = _model(name)
    num = 20_000
    draws = _draws(model, num)
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


def test_the_evidence_of_a_discrete_model_is_that_of_enumeration():
    graph = graph_of(
        """
        (let [c (sample (flip 0.5))
              s (sample (flip (if c 0.1 0.5)))
              r (sample (flip (if c 0.8 0.2)))]
          (observe (flip (if (and s r) 0.99 (if (or s r) 0.9 0.01))) true)
          [c s r])"""
    )
    model = Model.from_graph(graph)

    def log_joint(state):
        c, s, r = state
        wet = 0.99 if s and r else 0.9 if s or r else 0.01
        rain = 0.8 if c else 0.2
        sprinkler = 0.1 if c else 0.5
        return math.log(
            0.5 * (sprinkler if s else 1 - sprinkler) * (rain if r else 1 - rain) * wet
        )

    oracle = enumerate_states(log_joint, [(0, 1)] * 3)
    states = torch.tensor(oracle.states, dtype=torch.float64)
    found = model.log_joint(states, model.observation())
    assert float(torch.logsumexp(found, 0)) == pytest.approx(oracle.log_evidence)
    weights = torch.softmax(found, 0).numpy()
    assert weights == pytest.approx(oracle.probabilities)


# ------------------------------------------------------------------ free coordinates


@pytest.mark.parametrize("name", CONTINUOUS)
def test_free_coordinates_go_there_and_back(name):
    _, model = _model(name)
    latents = _draws(model).latents
    free, log_det = model.unconstrain(latents)
    assert free.shape == (6, model.layout.free_dim)
    again, log_det_again = model.constrain(free)
    assert torch.allclose(again, latents, atol=1e-8)
    assert torch.allclose(log_det, log_det_again, atol=1e-8)


def test_log_det_with_bounds_that_depend_on_parents_is_that_of_autodiff():
    _, model = _model("bounds")
    free, _ = model.unconstrain(_draws(model).latents)
    _, log_det = model.constrain(free)
    for row in range(6):
        jacobian = torch.autograd.functional.jacobian(
            lambda point: model.constrain(point)[0], free[row]
        )
        expected = torch.linalg.slogdet(jacobian)[1]
        assert float(log_det[row]) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_joint_free_adds_the_log_determinant(name):
    _, model = _model(name)
    draws = _draws(model)
    free, log_det = model.unconstrain(draws.latents)
    expected = model.log_joint(draws.latents, draws.observed) + log_det
    found = model.log_joint_free(free, draws.observed)
    assert torch.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradients_in_free_coordinates_are_those_of_finite_differences(name):
    _, model = _model(name)
    draws = _draws(model, 2)
    free, _ = model.unconstrain(draws.latents)
    free.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda point: model.log_joint_free(point, draws.observed),
        free,
        eps=1e-6,
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_density_in_free_coordinates_integrates_to_one():
    graph = _document({"sample0": ["sample*", ["beta", 2, 3]]})
    model = Model.from_graph(graph)
    grid = torch.linspace(-14, 14, 4001, dtype=torch.float64)[:, None]
    empty = torch.zeros(0, dtype=torch.float64)
    density = model.log_joint_free(grid, empty).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-6)


def test_the_support_of_a_branch_decides_the_coordinates_of_a_row():
    graph = graph_of(
        """
        (let [c (sample (normal 0 1))
              x (sample (if (> c 0) (gamma 2 1) (beta 2 3)))]
          (observe (normal x 1) 0.4)
          x)"""
    )
    model = Model.from_graph(graph)
    latents = _draws(model, 200).latents
    free, log_det = model.unconstrain(latents)
    is_gamma = latents[:, 0] > 0
    assert torch.allclose(free[is_gamma, 1], latents[is_gamma, 1].log())
    assert torch.allclose(free[~is_gamma, 1], latents[~is_gamma, 1].logit())
    again, log_det_again = model.constrain(free)
    assert torch.allclose(again, latents)
    assert torch.allclose(log_det, log_det_again)
    _assert_interpreted(graph, model, latents[:5], model.observation().expand(5, -1))


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
    latents = model.sample_latents(20, generator=_generator(), observed=given)
    assert ((latents[:, 1] - 50).abs() < 0.01).all()
    terms = model.log_prior_terms(latents, given).sum(-1)
    assert torch.allclose(model.log_prior(latents, given), terms)
    assert (model.log_prior(latents) < -1e6).all()
    free = model.sample_latents(20, generator=_generator())
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
    draws = model.sample_given({"b": b}, generator=_generator())
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
        model.sample_given(both, generator=_generator()).latents,
        torch.cat(list(both.values()), 1),
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_terms_of_some_observed_nodes_read_their_parents_alone(name):
    graph, model = _model(name)
    latents = _draws(model).latents
    data = model.observation()
    terms = model.log_likelihood_terms(latents, data)
    names = [*graph.observed[::-2]]
    places = [graph.observed.index(each) for each in names]
    found = model.log_likelihood_of(names, latents, data)
    torch.testing.assert_close(found, terms[:, places], equal_nan=True)
    if len(names) > 1:
        return
    parents = set(graph.parents(names[0]))
    unread = latents.clone()
    for variable in model.layout.latents:
        if variable.name not in parents:
            unread[:, variable.start : variable.stop] = math.nan
    found = model.log_likelihood_of(names, unread, data)
    torch.testing.assert_close(found, terms[:, places])


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
    drawn = model.sample_more([b, c], latents, data, generator=_generator())
    assert torch.equal(drawn[:, 0], latents[:, 0])
    assert (latents[:, 1:] == 7.0).all()
    # Means and deviations within five standard errors.
    for values, sd in (
        (drawn[:, 1] - 2 * latents[:, 0], 1.0),
        (drawn[:, 2] - drawn[:, 1], 0.5),
    ):
        assert abs(float(values.mean())) < 5 * sd / num**0.5
        assert abs(float(values.std()) - sd) < 5 * sd / (2 * num) ** 0.5
    last = model.sample_more([c], drawn, data, generator=_generator())
    assert torch.equal(last[:, :2], drawn[:, :2])


@pytest.mark.parametrize("shapes", [{}, {"a": (3,)}, {"a": (3, 2)}, {"a": (0, 0)}])
def test_given_values_of_the_wrong_shape_are_refused(shapes):
    model = Model.from_graph(graph_of("(let [a (sample (normal 3 2))] a)"))
    values = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="given values"):
        model.sample_given(values, generator=_generator())


def test_discrete_latents_have_no_free_coordinates():
    _, model = _model("mixture")
    with pytest.raises(ModelError, match=r"discrete latents.*got k"):
        model.constrain(torch.zeros(2, model.layout.free_dim, dtype=torch.float64))


# ------------------------------------------------------------------ branches


def test_a_branch_that_is_not_taken_gives_no_nan_gradient():
    graph = graph_of(
        """
        (let [x (sample (normal 0 1))
              s (if (> x 0) (sqrt x) (exp (* -1 x)))
              y (sample (normal (if (> x 0) (log x) (/ 1 (- x 1))) s))
              v [(sqrt x) (log (- 0 x)) (pow x 0.5)]]
          (observe (if (> x 0) (gamma x 1) (normal x (- 0 x))) 0.5)
          (if (< x 0) (observe (normal 0 (- 0 x)) 0.3) 1)
          (observe (normal (get v (if (> x 0) 0 1)) 1) 0.2)
          y)"""
    )
    model = Model.from_graph(graph)
    latents = torch.tensor(
        [[0.7, 0.1], [-0.7, 0.1], [2.0, -1.0], [-1e-3, 0.4]], dtype=torch.float64
    ).requires_grad_()
    observed = model.observation()
    value = model.log_joint(latents, observed)
    assert torch.isfinite(value).all()
    (gradient,) = torch.autograd.grad(value.sum(), latents)
    assert torch.isfinite(gradient).all()
    assert torch.autograd.gradcheck(
        lambda z: model.log_joint(z, observed), latents, eps=1e-7, atol=1e-3, rtol=1e-3
    )
    expected = [
        math.fsum(
            log_terms(graph, values_of_row(graph, model.layout, row, observed)).values()
        )
        for row in latents.detach()
    ]
    assert value.tolist() == pytest.approx(expected, rel=1e-9)


def test_an_observe_under_if_counts_only_where_its_condition_holds():
    graph = graph_of(
        """
        (let [z (sample (flip 0.4))]
          (if z (observe (normal 1 1) 0.7) (observe (normal -1 1) 0.7))
          z)"""
    )
    model = Model.from_graph(graph)
    states = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    terms = model.log_likelihood_terms(states, model.observation())
    assert terms[0, 0] == 0.0
    assert terms[1, 1] == 0.0
    normal = torch.distributions.Normal(0.0, 1.0)
    assert float(terms[1, 0]) == pytest.approx(
        float(normal.log_prob(torch.tensor(0.3)))
    )
    assert float(terms[0, 1]) == pytest.approx(
        float(normal.log_prob(torch.tensor(1.7)))
    )


def test_a_draw_in_a_branch_without_meaning_is_not_drawn():
    graph = graph_of(
        """
        (let [s (sample (normal 0 1))
              x (sample (if (> s 0) (normal 0 s) (laplace 0 1)))]
          x)"""
    )
    draws = Model.from_graph(graph).sample(500, generator=_generator())
    assert torch.isfinite(draws.latents).all()


# ------------------------------------------------------------------ rows, types, seeds


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_row_does_not_depend_on_the_other_rows(name):
    _, model = _model(name)
    draws = _draws(model, 40)
    together = model.log_joint(draws.latents, draws.observed)
    alone = torch.stack(
        [
            model.log_joint(z, x)
            for z, x in zip(draws.latents, draws.observed, strict=True)
        ]
    )
    assert torch.allclose(together, alone, rtol=1e-13, atol=1e-12)
    poisoned = draws.latents.clone()
    poisoned[::2] = math.nan
    mixed = model.log_joint(poisoned, draws.observed)
    assert torch.allclose(mixed[1::2], together[1::2], rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
def test_single_precision_agrees_with_double(name):
    _, model = _model(name)
    draws = _draws(model)
    exact = model.log_joint(draws.latents, draws.observed)
    found = model.log_joint(draws.latents.float(), draws.observed.float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=1e-3, atol=1e-2)


def test_batches_have_any_shape_and_one_row_of_data_serves_all():
    _, model = _model("regression")
    draws = _draws(model, 6)
    flat = model.log_joint(draws.latents, draws.observed)
    shaped = model.log_joint(
        draws.latents.view(2, 3, -1), draws.observed.view(2, 3, -1)
    )
    assert torch.equal(shaped, flat.view(2, 3))
    one = model.log_joint(draws.latents, draws.observed[0])
    crossed = model.log_joint(draws.latents[:, None], draws.observed[None])
    assert crossed.shape == (6, 6)
    assert torch.allclose(crossed[:, 0], one)
    assert torch.allclose(crossed.diagonal(), flat)
    assert model.log_joint(draws.latents[0], draws.observed[0]).shape == ()
    many = model.log_joint(draws.latents[0], draws.observed)
    assert torch.allclose(many, crossed[0])
    none = model.log_joint(draws.latents[:0], draws.observed[0])
    assert none.shape == (0,)
    assert model.constrain(draws.latents[:0])[0].shape == (0, 3)
    assert _draws(model, 0).observed.shape == (0, 4)


def test_one_seed_gives_one_set_of_draws_and_global_randomness_stays():
    _, model = _model("bounds")
    before = torch.random.get_rng_state()
    first, second = _draws(model), _draws(model)
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.observed, second.observed)
    assert not torch.equal(first.latents, _draws(model, seed=4).latents)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_have_the_type_that_is_asked_for():
    _, model = _model("bounds", dtype=torch.float32)
    assert _draws(model).latents.dtype == torch.float32
    wide = model.sample(2, generator=_generator(), dtype=torch.float64)
    assert wide.observed.dtype == torch.float64
    assert model.observation().dtype == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_device_gives_the_same_densities(name):
    _, model = _model(name, device="cuda")
    draws = model.sample(50, generator=torch.Generator("cuda").manual_seed(0))
    found = model.log_joint(draws.latents, draws.observed).cpu()
    expected = model.log_joint(draws.latents.cpu(), draws.observed.cpu())
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ impossible, wrong


def test_latents_outside_their_support_have_density_zero_without_an_error():
    _, model = _model("regression")
    latents = torch.tensor(
        [[0.1, 0.2, -0.5], [0.1, 0.2, 0.5], [0.1, math.inf, 0.5]], dtype=torch.float64
    )
    value = model.log_joint(latents, model.observation())
    assert value[0] == -math.inf
    assert torch.isfinite(value[1])
    assert value[2] == -math.inf
    assert model.log_prior(latents)[0] == -math.inf


def test_a_row_of_nan_gives_nan():
    _, model = _model("regression")
    latents = torch.full((2, 3), math.nan, dtype=torch.float64)
    latents[1] = 1.0
    value = model.log_joint(latents, model.observation())
    assert torch.isnan(value[0])
    assert torch.isfinite(value[1])


def test_a_negative_scale_names_node_value_and_link_function():
    graph = graph_of(
        """
        (let [a (sample (normal 0 1))
              b (sample (normal 2 (- a 0.5)))]
          (observe (normal b 1) 0.1)
          b)"""
    )
    model = Model.from_graph(graph)
    latents = torch.tensor([[1.0, 0.0], [0.25, 0.0]], dtype=torch.float64)
    with pytest.raises(ModelError) as caught:
        model.log_joint(latents, model.observation())
    text = str(caught.value)
    assert "$[1].P.sample" in text
    assert "standard deviation of normal is not valid at draw 1 of" in text
    assert "(b); expected a positive number" in text
    assert "got -0.25 from (normal 2 (- a 0.5)) with a = 0.25" in text
    with pytest.raises(ModelError, match=r"got -.* from \(normal 2 \(- a 0.5\)\)"):
        model.sample(100, generator=_generator())


def test_bad_parameters_that_are_known_are_refused_when_the_model_is_built():
    graph = _document(
        {
            "sample0": ["sample*", ["normal", 0, -1]],
            "sample1": ["sample*", ["gamma", 2, 0]],
            "sample2": ["sample*", ["discrete", ["vector", 0, 0]]],
            "sample3": ["sample*", ["normal", 0, 1]],
        }
    )
    with pytest.raises(ModelError) as caught:
        Model.from_graph(graph)
    assert [problem.where for problem in caught.value.problems] == [
        f"test.json: $[1].P.sample{number}" for number in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (["normal", ["vector", 1, 2], 1], "no number.*got a vector of 2"),
        (["mvn", 0, 1], "no vector.*got the number 0"),
        (["mvn", ["vector", 0, 1], ["vector", ["vector", 1, 0]]], "not square"),
        (["dirichlet", 3], "no vector"),
        (["categorical", ["vector", 1, 2]], "no list of pairs"),
        (["normal", True, 1], "no number.*got true"),
        (["normal", ["first", ["vector"]], 1], "no number.*got nil"),
        (
            [
                "mvn",
                ["vector", 0, 1, 2],
                ["vector", ["vector", 1, 0], ["vector", 0, 1]],
            ],
            "differ in size",
        ),
        (["normal", ["mat-mul", ["vector", 1], ["vector", 1, 2]], 1], "no value"),
    ],
)
def test_a_parameter_of_the_wrong_type_or_shape_is_refused(term, expected):
    with pytest.raises(ModelError, match=expected):
        Model.from_graph(_document({"sample0": ["sample*", term]}))


@pytest.mark.parametrize(
    ("term", "value", "expected"),
    [
        (["gamma", 2, 1], -1.0, "outside the support of gamma; expected a positive"),
        (["beta", 2, 1], 1.5, "between 0 and 1; got 1.5"),
        (["exponential", 1], -0.1, "at least 0"),
        (["uniform-continuous", 0, 2], 3, "from 0.0 to 2.0; got 3"),
        (["flip", 0.5], 1, "no boolean; expected true or false; got 1"),
        (["bernoulli", 0.5], True, "wrong type.*got true"),
        (["bernoulli", 0.5], 2, "0 or 1; got 2"),
        (["binomial", 3, 0.5], 4, "at most 3; got 4"),
        (["poisson", 2], 1.5, "whole number"),
        (["discrete", ["vector", 1, 1]], 2, "from 0 to 1; got 2"),
        (["uniform-discrete", 0, 3], 3, "from 0 to 3, exclusive"),
        (["dirichlet", ["vector", 1, 1]], ["vector", 0.5, 0.6], "sum to 1"),
        (["dirichlet", ["vector", 1, 1]], ["vector", 1], "wrong shape.*vector of 2"),
        (["normal", 0, 1], '"text"', "wrong type"),
        (["normal", 0, 1], ["vector", 1, 2], "wrong type"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_path(term, value, expected):
    data = value[1:] if isinstance(value, list) else value
    graph = _document(
        {
            "sample0": ["sample*", ["normal", 0, 1]],
            "observe1": ["observe*", term, value],
        },
        {"observe1": data},
    )
    with pytest.raises(ModelError, match=expected) as caught:
        Model.from_graph(graph)
    assert "$[1].Y.observe1" in str(caught.value)


def test_arguments_of_the_wrong_shape_or_type_are_refused():
    _, model = _model("regression")
    good, data = torch.zeros(2, 3, dtype=torch.float64), model.observation()
    with pytest.raises(
        ModelError, match="latents: wrong number of columns; expected 3"
    ):
        model.log_joint(good[:, :2], data)
    with pytest.raises(ModelError, match="observed: wrong number of columns"):
        model.log_joint(good, data[:2])
    with pytest.raises(ModelError, match="type differs"):
        model.log_joint(good, data.float())
    with pytest.raises(ModelError, match="rows do not match"):
        model.log_joint(good, data.expand(5, -1))


def test_unconstraining_a_value_outside_its_support_names_it():
    _, model = _model("regression")
    latents = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    with pytest.raises(ModelError, match=r"sigma at row 1.*gamma; expected positive"):
        model.unconstrain(latents)


# ------------------------------------------------------------------ data, capabilities


def test_the_observation_is_the_document_s_data_or_what_replaces_it():
    _, model = _model("colours")
    assert model.observation().tolist() == [21.0, 1.0]
    names = model.graph.observed
    assert model.observation({names[1]: "a"}).tolist() == [21.0, 0.0]
    with pytest.raises(ModelError, match='one of "a", "b"; got "c"'):
        model.observation({names[1]: "c"})
    with pytest.raises(ModelError, match="c is a latent"):
        model.observation({"c": 1})
    with pytest.raises(BridgeError, match="no node is called nobody"):
        model.observation({"nobody": 1})


def test_capabilities_name_the_discrete_latents():
    found = capabilities(graph_of(PROGRAMS["mixture"]))
    assert len(found.discrete_latents) == 3
    assert not found.has_free_coordinates
    assert "are discrete" in found.sentence
    assert "k" in found.sentence
    circuit = capabilities(graph_of(PROGRAMS["arithmetic_circuit"]))
    assert circuit.has_free_coordinates
    assert circuit.continuous_latents == ("z0", "z1", "z2", "z3", "z4", "z5")
    empty = capabilities(_document({"sample0": ["sample*", ["normal", 0, 1]]}))
    assert "observes nothing" in empty.sentence
    assert "no latents" in capabilities(_document({})).sentence


def test_the_layout_follows_the_graph():
    graph, model = _model("matrices")
    layout = model.layout
    assert [v.name for v in layout.latents] == list(graph.latents)
    assert [(v.label, v.shape) for v in layout.latents] == [
        ("m", (2,)),
        ("w", (2, 2)),
        ("t", (2,)),
    ]
    assert layout.latent_dim == 8
    assert layout.free_dim == 7
    assert layout.variable(graph.latents[1]).column_names == (
        "w[0,0]",
        "w[0,1]",
        "w[1,0]",
        "w[1,1]",
    )
    assert json.dumps([v.free_stop for v in layout.latents]) == "[2, 5, 7]"

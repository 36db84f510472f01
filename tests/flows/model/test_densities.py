"""Tests of flows.model.densities."""

import math
from pathlib import Path

import pytest
import torch

from daphne_bridge.errors import BridgeError
from daphne_bridge.graph.document import load_document
from daphne_bridge.graph.graph import Graph
from flows.errors import ModelError
from flows.model.model import Model

from ...exact import enumerate_states, joint_gaussian
from .interpreter import assert_interpreted, log_terms, values_of_row
from .programs import PROGRAMS, draws_of, generator_of, graph_of, model_of

GOLDEN = Path(__file__).parents[2] / "golden" / "programs"


@pytest.mark.parametrize("name", PROGRAMS)
def test_densities_are_those_of_the_node_by_node_interpreter(name):
    graph, model = model_of(name)
    draws = draws_of(model)
    assert_interpreted(graph, model, draws.latents, draws.observed)
    given = model.observation().expand(6, -1)
    assert_interpreted(graph, model, draws.latents, given)


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
            model.sample(50, generator=generator_of())
        latents = model.sample_latents(200, generator=generator_of())
        column = model.layout.variable("sample13").start
        latents = latents[latents[:, column] > 0][:4]
        assert_interpreted(graph, model, latents, model.observation().expand(4, -1))
        return
    draws = draws_of(model, 3)
    assert_interpreted(graph, model, draws.latents, draws.observed)
    given = model.observation().expand(3, -1)
    assert_interpreted(graph, model, draws.latents, given)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
def test_a_linear_gaussian_joint_is_one_normal_vector(name):
    graph, model = model_of(name)
    draws = draws_of(model)
    oracle = joint_gaussian(graph)
    found = model.log_joint(draws.latents, draws.observed)
    for row in range(6):
        values = values_of_row(
            graph, model.layout, draws.latents[row], draws.observed[row]
        )
        assert float(found[row]) == pytest.approx(oracle.log_joint(values), rel=1e-9)


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_terms_of_some_observed_nodes_read_their_parents_alone(name):
    graph, model = model_of(name)
    latents = draws_of(model).latents
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


def test_terms_of_some_nodes_are_those_of_latents_and_of_observed_ones():
    graph, model = model_of("regression")
    draws = draws_of(model)
    names = [graph.observed[-1], *graph.latents]
    found = model.log_terms_of(names, draws.latents, draws.observed)
    observed = model.log_likelihood_terms(draws.latents, draws.observed)
    latents = model.log_prior_terms(draws.latents, draws.observed)
    torch.testing.assert_close(found, torch.cat([observed[:, -1:], latents], -1))


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_row_does_not_depend_on_the_other_rows(name):
    _, model = model_of(name)
    draws = draws_of(model, 40)
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
    _, model = model_of(name)
    draws = draws_of(model)
    exact = model.log_joint(draws.latents, draws.observed)
    found = model.log_joint(draws.latents.float(), draws.observed.float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=1e-3, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_device_gives_the_same_densities(name):
    _, model = model_of(name, device="cuda")
    draws = model.sample(50, generator=torch.Generator("cuda").manual_seed(0))
    found = model.log_joint(draws.latents, draws.observed).cpu()
    expected = model.log_joint(draws.latents.cpu(), draws.observed.cpu())
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_latents_outside_their_support_have_density_zero_without_an_error():
    _, model = model_of("regression")
    latents = torch.tensor(
        [[0.1, 0.2, -0.5], [0.1, 0.2, 0.5], [0.1, math.inf, 0.5]], dtype=torch.float64
    )
    value = model.log_joint(latents, model.observation())
    assert value[0] == -math.inf
    assert torch.isfinite(value[1])
    assert value[2] == -math.inf
    assert model.log_prior(latents)[0] == -math.inf


def test_a_row_of_nan_gives_nan():
    _, model = model_of("regression")
    latents = torch.full((2, 3), math.nan, dtype=torch.float64)
    latents[1] = 1.0
    value = model.log_joint(latents, model.observation())
    assert torch.isnan(value[0])
    assert torch.isfinite(value[1])

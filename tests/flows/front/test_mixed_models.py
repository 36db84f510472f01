"""Tests of flows for models with discrete latents, from training to particles."""

import math
from pathlib import Path

import pytest
import torch
from scipy import stats

import flows
from flows.errors import FlowsError
from flows.flow.building import inverse_of
from flows.front.sequential import smc
from flows.marginal.target import target_of
from tests.flows.model.programs import graph_of

GALLERY = Path(__file__).parents[3] / "clj-programs"
QUICK = {
    "budget_seconds": 0.0,
    "max_iterations": 20,
    "certify_draws": 500,
    "normalisation_draws": 4000,
    "num_certifications": 1,
}


@pytest.fixture(scope="module")
def posterior():
    model = flows.Model.compile(GALLERY / "sensor_failure.daphne")
    return flows.train(model, config=QUICK, engine="torch", seed=0)


def exact():
    """Evidence, P(broken) and the mean temperature, from the program's own numbers."""
    broken = 0.1 * stats.norm.pdf(24, 0, 30)
    works = 0.9 * stats.norm.pdf(24, 20, math.sqrt(26))
    chance = broken / (broken + works)
    given_works = (20 / 25 + 24) / (1 / 25 + 1)
    return (
        math.log(broken + works),
        chance,
        chance * 20 + (1 - chance) * given_works,
    )


def test_particles_hold_exact_draws_of_the_discrete_latents(posterior):
    # Where the thermometer is broken the posterior is the prior, wider than the flow.
    particles = posterior.sample(
        None, 20_000, seed=1, proposal="mixture", mixture_weight=0.3
    )
    evidence, chance, mean = exact()
    error = particles.totals.log_evidence_standard_error
    assert particles.totals.log_evidence == pytest.approx(evidence, abs=5 * error)
    found, errors = particles.mean(), particles.mean_standard_error()
    layout = posterior.model.layout
    for label, value in (("broken", chance), ("temperature", mean)):
        column = next(v.start for v in layout.latents if v.label == label)
        assert float(found[column]) == pytest.approx(
            value, abs=5 * float(errors[column])
        )
    broken = next(v.start for v in layout.latents if v.label == "broken")
    assert set(particles.latents[:, broken].tolist()) == {0.0, 1.0}


def test_a_saved_flow_of_a_mixed_model_gives_the_same_particles(posterior, tmp_path):
    posterior.save(tmp_path / "artifact")
    again = flows.load(tmp_path / "artifact", posterior.model)
    one, other = (p.sample(None, 500, seed=2) for p in (posterior, again))
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.log_weights, other.log_weights)


def test_a_trained_flow_answers_where_it_is_good(posterior):
    answer = flows.infer(posterior.model, flow=posterior.proposal(), method="flow")
    assert answer.method == "flow"
    assert answer.latents["broken"].mean == pytest.approx(exact()[1], abs=0.01)


def test_tempering_from_the_flow_keeps_the_discrete_latents(posterior):
    result, _, _ = smc(
        posterior, num_particles=1000, seed=3, proposal="mixture", mixture_weight=0.3
    )
    evidence, chance, _ = exact()
    error = result.log_evidence_standard_error
    assert result.log_evidence == pytest.approx(evidence, abs=5 * error)
    assert float(result.particles.mean("broken")) == pytest.approx(chance, abs=0.02)


def test_observes_that_share_discrete_latents_do_not_enter_one_by_one(posterior):
    with pytest.raises(FlowsError, match="expected annealed"):
        smc(posterior, method="sequential")


def test_a_model_without_continuous_latents_needs_no_flow():
    model = flows.Model.compile(GALLERY / "alarm.daphne")
    with pytest.raises(FlowsError, match="daphne-flows infer"):
        flows.train(model, config=QUICK)


def test_the_inverse_is_over_the_continuous_latents_alone():
    graph = graph_of((GALLERY / "gaussian_mixture.daphne").read_text())
    target = target_of(flows.Model.from_graph(graph))
    inverse = inverse_of(graph, target.layout)
    continuous = {n for n in graph.latents if not graph.node(n).is_discrete}
    assert set(inverse.latents) == continuous
    earlier: set[str] = set(graph.observed)
    for name in inverse.latents:
        assert set(inverse.parents[name]) <= earlier
        earlier.add(name)
    # every assignment joins its observation with all means and weights
    assert all(set(graph.observed) <= set(p) for p in inverse.parents.values())

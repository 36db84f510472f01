"""Tests of flows.measurement.evaluation against a flow whose divergence is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.measurement import evaluation
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model

from ..conftest import pair_document


def exact_flow(graph, shift, num_draws=200_000):
    """Return the exact posterior of a linear-Gaussian model as a flow, then shifted.

    With all weights zero the field is zero, and the fitted affine layer is the exact
    conditional; moving the last sampled latent by `shift` posterior deviations gives
    KL = shift^2 / 2 in both directions and ESS / N = exp(-shift^2).
    """
    model = Model.from_graph(graph)
    structure = build_structure(invert(graph), model.layout)
    flow = build_flow(structure, FieldConfig(layers=2, hidden=2), seed=0)
    draws = model.sample(num_draws, generator=torch.Generator().manual_seed(0))
    flow = flow.double()
    flow.normalisation.fit(model.unconstrain(draws.latents)[0], draws.observed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
        normalisation = flow.normalisation
        normalisation.offset[-1] += shift * normalisation.residual_scale[-1]
    return model, flow


@pytest.fixture(scope="module", params=[0.0, 0.8])
def measured(request):
    graph = Graph.from_document(document_from_json(pair_document()))
    model, flow = exact_flow(graph, request.param)
    config = EvaluationConfig(
        num_draws=4000, num_data_sets=200, num_particles=400, seed=3
    )
    # A clock that ticks once at every look: 1 s for each batch and each data set.
    clock = iter(range(10**6)).__next__
    reports = list(evaluate(model, flow, config, clock=clock))
    return request.param, reports


def test_j_is_the_known_divergence(measured):
    shift, reports = measured
    j = reports[-1].result.j.symmetric
    assert abs(j.mean - 0.5 * shift**2) < 5 * j.standard_error + 2e-3
    assert j.num_non_finite == 0


def test_ess_is_that_of_a_shifted_normal(measured):
    shift, reports = measured
    expected = math.exp(-(shift**2))
    assert reports[-1].result.flow.ess_median == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("wrong", [math.nan, -math.inf])
def test_a_flow_that_is_no_number_for_some_data_carries_no_weight_there(
    wrong, monkeypatch
):
    graph = Graph.from_document(document_from_json(pair_document()))
    model, flow = exact_flow(graph, 0.0, num_draws=20_000)
    plain = evaluation._reverse

    def broken(judge, weighing, base, observed):
        free, terms = plain(judge, weighing, base, observed)
        return free, torch.where(observed[:, 0] > 0.5, wrong, terms)

    monkeypatch.setattr(evaluation, "_reverse", broken)
    config = EvaluationConfig(num_draws=100, num_data_sets=60, num_particles=50, seed=3)
    *_, last = evaluate(model, flow, config)
    figures = last.result.flow
    assert figures.ess_quantile_05 == figures.ess_quantile_10 == 0.0
    assert figures.ess_median in (0.0, pytest.approx(1.0, abs=1e-3))
    assert last.result.j.symmetric.num_non_finite > 0


def test_the_prior_is_measured_on_the_same_data(measured):
    _, reports = measured
    model, _ = exact_flow(Graph.from_document(document_from_json(pair_document())), 0.0)
    # log w = log p(x | z): ESS / N = (E w)² / E w², closed forms of one normal vector.
    generator = torch.Generator().manual_seed(5)
    prior = np.array([[4.0, 8.0], [8.0, 17.0]])
    noise = np.diag([1.0, 0.25])
    mean = np.array([1.0, 2.0])
    # w² is a normal density of half the variance, times 1 / (4π sd sd).
    scale = 4.0 * math.pi * math.sqrt(1.0 * 0.25)
    first = stats.multivariate_normal(mean, prior + noise)
    second = stats.multivariate_normal(mean, prior + 0.5 * noise)
    data = model.sample(4000, generator=generator).observed.numpy()
    exact = np.median(first.pdf(data) ** 2 / (second.pdf(data) / scale))
    found = reports[-1].result.prior.ess_median
    assert found == pytest.approx(exact, rel=0.15)


def test_speed_is_the_ess_of_all_data_sets_over_the_time_they_took(measured):
    shift, reports = measured
    result = reports[-1].result
    # 10 data sets in each of 20 batches; every data set by itself for the prior.
    mean = result.flow.ess_per_cpu_second * 20 / (200 * 400)
    assert mean == pytest.approx(math.exp(-(shift**2)), rel=0.05)
    assert 0 < result.prior.ess_per_cpu_second < 400


def test_calibration_finds_the_shifted_latent_and_no_other(measured):
    shift, reports = measured
    latents = reports[-1].result.latents
    last = reports[-1].result.latents[-1]
    wrong = [latent.name for latent in latents if latent.ranks.is_uniform is False]
    assert len(wrong) == (1 if shift else 0)
    assert last.ks < 0.06 or shift


def test_progress_reaches_the_end_and_the_figures_are_plain_json(measured):
    _, reports = measured
    done = [report.rows_done for report in reports]
    assert done == sorted(done)
    assert done[-1] == reports[-1].rows_total == 2 * 4000 + 200 * 400
    plain = reports[-1].result.to_json()
    assert plain["evaluations_base_to_latent"] > 0


def test_rows_are_solved_in_parts_and_the_figures_are_the_same(monkeypatch):
    graph = Graph.from_document(document_from_json(pair_document()))
    model, flow = exact_flow(graph, 0.5, num_draws=20_000)
    config = EvaluationConfig(num_draws=500, num_data_sets=6, num_particles=50)
    *_, whole = evaluate(model, flow, config)
    sizes = []
    solved = evaluation._reverse

    def seen(model, flow, base, observed):
        sizes.append(len(base))
        return solved(model, flow, base, observed)

    monkeypatch.setattr(evaluation, "_COLUMNS", 140)
    monkeypatch.setattr(evaluation, "_reverse", seen)
    *_, parts = evaluate(model, flow, config)
    assert max(sizes) == 140 // flow.structure.state_dim
    assert sum(sizes) == 500 + 6 * 50
    assert parts.result.j.symmetric.mean == pytest.approx(
        whole.result.j.symmetric.mean, abs=1e-6
    )
    assert parts.result.flow.ess_median == pytest.approx(whole.result.flow.ess_median)


def test_draws_of_the_flow_without_a_meaning_are_counted_and_end_nothing():
    """All draws are where the rate of the exponential is 0."""
    text = "(let [x (sample (normal 0 1))] (observe (exponential (exp x)) 2) x)"
    model, flow = exact_flow(Model.from_program(text).graph, -3000.0, 2000)
    config = EvaluationConfig(num_draws=200, num_data_sets=3, num_particles=50)
    *_, last = evaluate(model, flow, config)
    assert last.result.j.reverse.num_non_finite == 200
    assert last.result.j.forward.num_non_finite == 0

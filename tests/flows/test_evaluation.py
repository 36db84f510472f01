"""Tests of flows.evaluation against a flow whose divergence is known."""

import math

import pytest
import torch

from daphne_bridge.document import document_from_json
from daphne_bridge.graph import Graph
from daphne_bridge.inversion import invert
from flows.cnf.flow import build_flow
from flows.cnf.structure import build_structure
from flows.cnf.vector_field import FieldConfig
from flows.evaluation import EvaluationConfig, evaluate
from flows.model.density import Model

from .conftest import pair_document


def exact_flow(graph, shift):
    """Return the exact posterior of a linear-Gaussian model as a flow, then shifted.

    With all weights zero the field is zero, and the fitted affine layer is the exact
    conditional; moving the last sampled latent by `shift` posterior deviations gives
    KL = shift^2 / 2 in both directions and ESS / N = exp(-shift^2).
    """
    model = Model.from_graph(graph)
    structure = build_structure(invert(graph), model.layout)
    flow = build_flow(structure, FieldConfig(layers=2, hidden=2), seed=0)
    draws = model.sample(200_000, generator=torch.Generator().manual_seed(0))
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
    reports = list(evaluate(model, flow, config))
    return request.param, reports


def test_j_is_the_known_divergence(measured):
    shift, reports = measured
    j = reports[-1].result.j.symmetric
    assert abs(j.mean - 0.5 * shift**2) < 5 * j.standard_error + 2e-3
    assert j.num_non_finite == 0


def test_ess_is_that_of_a_shifted_normal(measured):
    shift, reports = measured
    expected = math.exp(-(shift**2))
    assert reports[-1].result.ess_median == pytest.approx(expected, rel=0.05)


def test_calibration_finds_the_shifted_latent_and_no_other(measured):
    shift, reports = measured
    latents = reports[-1].result.latents
    last = reports[-1].result.latents[-1]
    wrong = [latent.name for latent in latents if not latent.ranks.is_uniform]
    assert len(wrong) == (1 if shift else 0)
    assert last.ks < 0.06 or shift


def test_progress_reaches_the_end_and_the_figures_are_plain_json(measured):
    _, reports = measured
    done = [report.rows_done for report in reports]
    assert done == sorted(done)
    assert done[-1] == reports[-1].rows_total == 2 * 4000 + 200 * 400
    plain = reports[-1].result.to_json()
    assert plain["evaluations_base_to_latent"] > 0

"""Tests of flows.measurement.diagnosis against a flow whose error is known."""

import math
from dataclasses import replace

import pytest
import torch

import flows
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.flow import ConditionalFlow
from flows.measurement.diagnosis import DiagnosisConfig, diagnose

from .test_evaluation import exact_flow


def diagnosis_of(graph, shift, num_data_sets=400, num_particles=200):
    model, flow = exact_flow(graph, shift)
    flow.engine = AdaptiveEngine(1e-6)
    config = DiagnosisConfig(num_data_sets, num_particles)
    *_, last = diagnose(model, flow, config)
    return flow, last.result


def test_an_exact_flow_is_calibrated_and_costs_nothing(pair_graph):
    _, found = diagnosis_of(pair_graph, 0.0)
    assert found.is_calibrated
    assert min(found.ess_fractions) > 0.98
    assert found.log_weight_variance < 0.01
    for latent in found.latents:
        for level, share in zip(found.coverage_levels, latent.coverage, strict=True):
            error = math.sqrt(level * (1 - level) / 400)
            # The draws have 100 ranks: intervals are known to 1 %.
            assert abs(share - level) < 4 * error + 0.01


def test_a_broken_flow_fails_and_the_broken_node_is_named(pair_graph):
    shift = 0.7
    flow, found = diagnosis_of(pair_graph, shift)
    assert found.is_calibrated is False
    # Shifting a normal conditional by s deviations gives log weights of variance s².
    assert abs(found.log_weight_variance - shift**2) < 0.05
    *rest, last = found.nodes
    assert abs(last.variance - shift**2) < 0.05
    assert all(abs(node.variance) < 0.05 for node in rest)
    assert abs(found.median_log_weight_variance - shift**2) < 0.05
    assert abs(last.median_variance - shift**2) < 0.05
    assert all(abs(node.median_variance) < 0.05 for node in rest)
    assert abs(sum(n.variance for n in found.nodes) - found.log_weight_variance) < 1e-9
    assert last.name == flow.structure.blocks[-1].name
    median = float(torch.tensor(found.ess_fractions).median())
    assert abs(median - math.exp(-(shift**2))) < 0.05


def test_weights_answer_rightly_for_a_broken_flow_but_not_with_a_wrong_density(
    pair_graph, monkeypatch
):
    _, found = diagnosis_of(pair_graph, 0.7)
    assert found.is_calibrated is False
    assert found.is_weighted_calibrated
    # Draws are moved, what is said of their density is not.
    to_latent = ConditionalFlow.from_base

    def moved(self, base, observed):
        draw = to_latent(self, base, observed)
        return replace(draw, free=draw.free + 0.7)

    monkeypatch.setattr(ConditionalFlow, "from_base", moved)
    _, found = diagnosis_of(pair_graph, 0.0)
    assert found.is_weighted_calibrated is False


PAIR = """(let [k (sample (flip 0.5)) x (sample (normal (if k MEAN -1) 1))]
  (observe (normal x 2) 1) [k x])"""


@pytest.fixture(scope="module")
def mixed():
    """Exact posteriors of x in two models, the flip summed out."""

    def posterior(mean):
        model = flows.Model.from_program(PAIR.replace("MEAN", mean))
        return flows.train(model, kind="structured-gaussian", budget="1s")

    return posterior("1"), posterior("3")


def test_a_model_whose_discrete_latents_are_summed_out_is_diagnosed(mixed):
    right, other = mixed
    config = DiagnosisConfig(400, 100)
    *_, last = diagnose(right.target, right.flow, config)
    assert last.result.is_calibrated
    assert min(last.result.ess_fractions) > 0.999
    assert last.result.nodes == ()
    *_, last = diagnose(right.target, other.flow, config)
    assert last.result.latents[0].ranks.p_value < 0.001
    assert last.result.latents[0].ks > 0.2
    assert last.result.is_weighted_calibrated


def test_marginals_count_truths_and_draws(pair_graph):
    _, found = diagnosis_of(pair_graph, 0.0)
    for latent in found.latents:
        counts = latent.marginal
        assert sum(counts.truths) == sum(counts.draws) == 400
        assert len(counts.edges) == len(counts.truths) + 1
        # The largest gap of the counts is one of the gaps that KS looks at.
        gaps = [
            sum(counts.truths[:i]) - sum(counts.draws[:i])
            for i in range(len(counts.truths))
        ]
        assert max(map(abs, gaps)) / 400 <= latent.ks + 1e-9


def test_too_few_draws_are_refused(pair_graph):
    model, flow = exact_flow(pair_graph, 0.0)
    with pytest.raises(ValueError, match="more than 99 particles"):
        diagnose(model, flow, DiagnosisConfig(num_particles=50))

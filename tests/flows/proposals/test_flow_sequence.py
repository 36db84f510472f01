"""Tests of flows.proposals.flow_sequence.

The steps of an exact flow weigh nothing, those of another add up to the weight, and
what is resampled gets a future of its own.
"""

import numpy as np
import pytest
import torch

from flows.flow.protocol import FlowDraw
from flows.inference.importance import importance_particles
from flows.inference.smc.observes import sequential_smc
from flows.proposals.flow import FlowProposal
from flows.proposals.flow_sequence import FlowSequence
from flows.proposals.weight_terms import Contributions

from ...exact import joint_gaussian
from ..inference.targets import check_moments, result_of
from ..inference.unbiased import check_unbiased
from ..measurement.test_evaluation import exact_flow
from ..model.programs import PROGRAMS, graph_of
from ..test_every_method import LONG, text_of
from .test_weight_terms import BOUNDED, random_flow


def off_everywhere(text, shift):
    """Return model, flow with every latent off by `shift` deviations, exact answer."""
    graph = graph_of(text)
    model, flow = exact_flow(graph, 0.0, num_draws=20_000)
    with torch.no_grad():
        normalisation = flow.normalisation
        normalisation.offset += shift * normalisation.residual_scale
    data = {each: graph.node(each).observation for each in graph.observed}
    return model, flow, joint_gaussian(graph).posterior(data)


def fitted(model, flow, **options):
    generator = torch.Generator().manual_seed(99)
    data = model.observation()
    return FlowSequence.fitted(model, flow, data, generator=generator, **options)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
def test_no_step_of_an_exact_flow_weighs_and_none_is_resampled(name):
    model, flow, exact = off_everywhere(text_of(name), 0.0)
    reports = list(sequential_smc(fitted(model, flow), 1000, seed=0))
    assert len(reports) == len(model.layout.latents)
    assert min(report.ess for report in reports) > 950
    assert not any(report.has_resampled for report in reports)
    result = reports[-1].result
    assert abs(result.log_evidence - exact.log_evidence) < 0.01
    # What is complete at a step is not what the flow was drawn from.
    plain = list(sequential_smc(fitted(model, flow, num_pilots=0), 1000, seed=0))
    assert min(report.ess for report in plain) < 500


@pytest.mark.parametrize("num_pilots", [0, 300])
@pytest.mark.parametrize("text", [BOUNDED, PROGRAMS["gaussian_tree"]])
def test_the_steps_add_up_to_the_log_weight(text, num_pilots):
    model, flow = random_flow(text)
    sequence = fitted(model, flow, num_pilots=num_pilots)
    assert any(message is not None for message in sequence.messages) == (num_pilots > 0)
    run = sequential_smc(sequence, 50, seed=5, ess_threshold=0.0)
    result = result_of(run)
    draw = FlowProposal(flow, model).rsample_and_log_prob(
        model.observation(), 50, generator=torch.Generator().manual_seed(5)
    )
    torch.testing.assert_close(result.particles.latents, draw.latents.detach())
    expected = model.log_joint(draw.latents, model.observation()) - draw.log_prob
    torch.testing.assert_close(result.particles.log_weights, expected.detach())


def test_copies_share_their_past_and_draw_a_future_of_their_own():
    model, flow = random_flow(PROGRAMS["gaussian_tree"])
    sequence = fitted(model, flow, num_pilots=0)
    generator = torch.Generator().manual_seed(0)
    state = sequence.start(6, generator=generator).state
    copied = state[[4, 1, 4, 4, 2, 1]]
    later = sequence.extend(copied, 2, generator=generator).state
    for first in (0, 1, 4):
        assert torch.equal(later[first], copied[first])
    assert len(set(later[:, -1].tolist())) == 6
    variables = {v.name: v.free_start for v in model.layout.latents}
    order = [variables[name] for name in flow.structure.names]
    for copy in (2, 3, 5):
        assert torch.equal(later[copy, order[:2]], copied[copy, order[:2]])
        assert (later[copy, order[2:]] != copied[copy, order[2:]]).all()
    assert (later[2, order[2:]] != later[3, order[2:]]).all()
    # What is weighed is that of the new latents.
    free, nuisances = later[:, : len(order)], later[:, len(order) : 2 * len(order)]
    rows = model.observation().expand(6, -1)
    with torch.no_grad():
        per_node = flow.log_prob_per_node(free, nuisances, rows)
    draw = FlowDraw(free, nuisances, per_node)
    parts = Contributions(model, flow)(draw, rows)[1]
    weighed = later[:, 2 * len(order) : -1]
    torch.testing.assert_close(weighed[:, 2:], parts[:, 2:], rtol=1e-6, atol=1e-6)
    # Nothing is drawn where there are no copies.
    assert torch.equal(sequence.extend(later, 3, generator=generator).state, later)


@pytest.mark.slow
def test_the_evidence_is_unbiased_over_1000_repetitions(pair_graph):
    """The mean of Z / exact over 1,000 runs of 20 particles is 1 within 4 errors."""
    model, flow = exact_flow(pair_graph, 0.0)
    with torch.no_grad():
        flow.normalisation.offset += 0.8 * flow.normalisation.residual_scale
    data = {each: pair_graph.node(each).observation for each in pair_graph.observed}
    exact = joint_gaussian(pair_graph).posterior(data).log_evidence
    sequence = fitted(model, flow, num_pilots=200)
    check_unbiased(
        lambda seed: sequential_smc(sequence, 20, seed=seed, ess_threshold=0.9),
        exact,
        largest_error=0.03,
        least_resampled=500,
    )


@pytest.mark.slow
def test_the_standard_error_is_the_spread_over_runs():
    """200 runs: z-scores of evidence and means have sd 1, within 5 · 0.05."""
    model, flow, exact = off_everywhere(PROGRAMS["gaussian_tree"], 0.4)
    sequence = fitted(model, flow)
    scores = []
    for seed in range(200):
        result = result_of(sequential_smc(sequence, 200, seed=seed, ess_threshold=0.9))
        gap = result.particles.mean().numpy() - exact.mean
        error = result.log_evidence_standard_error
        scores.append(
            [
                (result.log_evidence - exact.log_evidence) / error,
                *gap / result.mean_standard_error().numpy(),
            ]
        )
    spread = np.sqrt(np.square(scores).mean(0))
    assert (np.abs(spread - 1.0) < 5 * 0.05).all()


@pytest.mark.slow
def test_100_small_errors_that_importance_sampling_adds_up_are_taken_one_by_one():
    model, flow, exact = off_everywhere(text_of(LONG), 0.3)
    plain = importance_particles(
        model, FlowProposal(flow, model), model.observation(), 2000, seed=0
    )
    assert plain.totals.ess < 20
    result = result_of(sequential_smc(fitted(model, flow), 2000, seed=1))
    error = result.log_evidence_standard_error
    assert error < 0.2
    assert abs(result.log_evidence - exact.log_evidence) < 4 * error
    assert result.ess > 50
    check_moments(result, exact.mean, exact.covariance)

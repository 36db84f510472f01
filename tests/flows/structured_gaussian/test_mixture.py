"""Tests of flows.structured_gaussian.mixture: mixtures of normals without training."""

import numpy as np
import pytest
import torch
from scipy import stats

from flows.flow.kinds import build_flow, for_weights
from flows.flow.protocol import Known
from flows.marginal.target import target_of
from flows.model.model import Model

PROGRAM = """
(let [k (sample (discrete [0.3 0.5 0.2]))
      j (sample (flip 0.4))
      a (sample (normal (get [-2 0 3] k) (get [0.5 1 2] k)))
      b (sample (normal (* 2 a) (if j 0.3 2)))]
  (observe (normal a 1) 0.5)
  (observe (normal (if j b 0) 0.7) 1.0)
  (observe (normal (if j 1 -1) 3) 1.0)
  [k j a b])
"""


@pytest.fixture(scope="module")
def made():
    model = target_of(Model.from_program(PROGRAM))
    flow = build_flow(model, kind="structured-gaussian", nuisances=1)
    draws = model.sample(500, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, draws.observed)
    return model, for_weights(flow), free, draws.observed


def nuisances_of(rows, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, generator=generator).double()


def test_density_is_the_sum_over_configurations(made):
    _, flow, free, observed = made
    y = observed[3].tolist()
    means, scales = [-2, 0, 3], [0.5, 1, 2]
    joint = np.zeros(5)
    evidence = 0.0
    for k, weight in enumerate([0.3, 0.5, 0.2]):
        for j, share in enumerate([0.6, 0.4]):
            # of (a, b, first two data): a = m + s e1, b = 2 a + t e2, ...
            m, s, t = means[k], scales[k], (0.3 if j else 2.0)
            rows = np.array([[s, 0], [2 * s, t], [s, 0], [2 * s * j, t * j]])
            covariance = rows @ rows.T + np.diag([0, 0, 1, 0.49])
            mean = np.array([m, 2 * m, m, 2 * m * j])
            both = weight * share * stats.norm.pdf(y[2], 1 if j else -1, 3)
            normal = stats.multivariate_normal(mean[2:], covariance[2:, 2:])
            evidence += both * normal.pdf(y[:2])
            whole = stats.multivariate_normal(mean, covariance)
            points = np.column_stack([free[:5].numpy(), np.tile(y[:2], (5, 1))])
            joint += both * whole.pdf(points)
    extra = nuisances_of(5)
    found = flow.log_prob(free[:5], extra, observed[3].expand(5, -1)).numpy()
    found = found - stats.norm.logpdf(extra.numpy()).sum(-1)
    np.testing.assert_allclose(found, np.log(joint / evidence), atol=1e-6)


def test_divergence_is_nought_without_training(made):
    model, flow, free, observed = made
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(1)
    )
    extra = nuisances_of(len(free))
    normal = torch.distributions.Normal(0.0, 1.0)
    forward = model.log_joint_free(free, observed) + normal.log_prob(extra).sum(-1)
    forward = forward - flow.log_prob(free, extra, observed)
    reverse = draw.log_prob - model.log_joint_free(draw.free, observed)
    reverse = reverse - normal.log_prob(draw.nuisances).sum(-1)
    assert float((forward + reverse).abs().max()) < 1e-9


def test_density_at_a_draw_is_what_came_with_it_and_that_of_the_jacobian(made):
    _, flow, _, observed = made
    base = flow.sample_base(4, generator=torch.Generator().manual_seed(2))
    draw = flow.from_base(base, observed[:4])
    terms = flow.log_prob_per_node(draw.free, draw.nuisances, observed[:4])
    torch.testing.assert_close(terms, draw.log_prob_per_node)

    def state(point):
        found = flow.from_base(point[None], observed[:1])
        return torch.cat([found.free, found.nuisances], -1)[0]

    jacobian = torch.autograd.functional.jacobian(state, base[0])
    log_base = torch.distributions.Normal(0.0, 1.0).log_prob(base[0]).sum()
    wanted = log_base - torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(draw.log_prob[0], wanted)


def test_remaining_latents_given_a_joint_draw_are_that_draw(made):
    _, flow, _, observed = made
    draw = flow.rsample_and_log_prob(
        observed[:6], generator=torch.Generator().manual_seed(5)
    )
    first = flow.structure.blocks[0]
    is_hidden = torch.ones(2).bool()
    is_hidden[list(first.free_columns)] = False
    free = torch.where(is_hidden, torch.nan, draw.free)
    known = Known(free, draw.nuisances, [first.name])
    found = flow.rsample_remaining(
        known, observed[:6], generator=torch.Generator().manual_seed(5)
    )
    torch.testing.assert_close(found.free, draw.free)

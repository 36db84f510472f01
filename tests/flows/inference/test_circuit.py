"""Tests of annealed SMC on the circuit at its published observation.

x1 = 5.2 lies 30 standard deviations beyond all that tanh and noise can give, and
z0 z1 = 0.3 has two arms, one along each axis. The oracle is quadrature: z2 goes out, as
does z5 by hand, x1 ~ N(tanh(z3 + z4), √0.02); z0, z1, z3 and z4 stand on grids.
"""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from flows.front.doubts import predictive_cautions
from flows.inference.proposal import PriorProposal
from flows.inference.smc.annealing import annealed_smc
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import FreeSpace
from flows.inference.smc.forgetting import move_cautions
from flows.inference.smc.moves import Hamiltonian
from flows.inference.smc.result import summarize_smc
from flows.model.model import Model

from ..model.programs import PROGRAMS, graph_of
from .targets import result_of

X0, X1 = 0.3, 5.2


def grid(low, high, num):
    points = np.linspace(low, high, num)
    return points, np.log(points[1] - points[0])


def quadrature(num):
    """Return log evidence, means of z0, z1, z3, z4, z5, and P(z0 < 0 | data)."""
    z0, width0 = grid(-15, 25, num)
    z1, width1 = grid(-14, 10, num)
    z3, width3 = grid(X0 - 0.9, X0 + 0.9, 61)
    z4, width4 = grid(-8, 22, 601)
    prior0 = -np.abs(z0 - 5) - np.log(2) + width0
    prior1 = -np.abs(z1 + 2) - np.log(2) + width1
    product = np.multiply.outer(z0, z1)
    weights = prior0[:, None] + prior1
    sums = []
    for value in z3:
        density = np.exp(weights + norm.logpdf(value, product, 0.1))
        left = density[z0 < 0].sum()
        sums.append((density.sum(), density.sum(1) @ z0, density.sum(0) @ z1, left))
    total, first, second, left = np.array(sums).T
    curve = np.tanh(np.add.outer(z3, z4))
    given4 = norm.logpdf(X1, curve, np.sqrt(0.02)) + norm.logpdf(z4, 7, 2) + width4
    joint = np.log(total) + norm.logpdf(X0, z3, 0.1) + width3 + logsumexp(given4, 1)
    evidence = logsumexp(joint)
    share = np.exp(joint - evidence)
    share4 = np.exp(given4 - logsumexp(given4, 1)[:, None])
    means = [
        share @ (first / total),
        share @ (second / total),
        share @ z3,
        share @ (share4 @ z4),
        share @ (share4 * (curve + X1) / 2).sum(1),
    ]
    return float(evidence), means, float(share @ (left / total))


@pytest.mark.slow
def test_the_published_observation_gets_the_true_answer_and_warnings():
    coarse, exact, means, left = quadrature(801)[0], *quadrature(1601)
    assert abs(coarse - exact) < 1e-3
    model = Model.from_graph(graph_of(PROGRAMS["arithmetic_circuit"]))
    data = model.observation({"observe6": X0, "observe7": X1})
    space = FreeSpace(model, PriorProposal(model), data)
    config = AnnealingConfig(move=Hamiltonian(16))
    reports = list(annealed_smc(space, 600, seed=0, config=config))
    result = result_of(reports)
    error = result.log_evidence_standard_error
    assert error < 0.4
    assert abs(result.log_evidence - exact) < 4 * error
    found = {each.label: each for each in summarize_smc(result).latents}
    # Both arms are there, though the particles hardly go from one to the other; what
    # stands in each is compared with the arms at their true shares.
    is_left = (result.particles[found["z0"].name] < 0).double()
    weights = result.particles.normalized_weights
    share = float(weights @ is_left)
    assert 0.25 * left < share < 4 * left
    weights = weights * torch.where(is_left > 0, left / share, (1 - left) / (1 - share))
    for name, mean in zip(("z0", "z1", "z3", "z4", "z5"), means, strict=True):
        latent = found[name]
        inside = float(weights @ result.particles[latent.name].double())
        assert abs(inside - mean) < 4 * latent.mean_standard_error, name
    assert "hardly moved" in move_cautions(reports)[0].what
    (caution,) = predictive_cautions(model, data, seed=0)
    assert "observe7 = 5.2" in caution.what or "x1 = 5.2" in caution.what
    assert "annealed SMC" in caution.remedy

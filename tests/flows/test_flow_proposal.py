"""Tests of flows.flow_proposal against the joint normal of linear-Gaussian programs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from daphne_bridge.compiler import compile_program
from daphne_bridge.document import document_from_json
from daphne_bridge.graph import Graph
from flows.cnf.engine import AdaptiveEngine
from flows.flow_proposal import KINDS, FlowProposal, proposal_of
from flows.inference.annealing import BaseSpace, FreeSpace, annealed_smc
from flows.inference.importance import importance_particles
from flows.inference.moves import Hamiltonian, RandomWalk
from flows.inference.resampling import SCHEMES
from flows.inference.smc import (
    ObserveSequence,
    result_of,
    sequential_smc,
)

from ..exact import joint_gaussian
from .test_evaluation import exact_flow

PROGRAMS = Path(__file__).parents[2] / "clj-programs"


def test_density_of_a_base_point_is_the_density_where_it_goes(pair_graph):
    model, flow = exact_flow(pair_graph, 0.5)
    proposal = FlowProposal(flow, model, AdaptiveEngine(1e-9))
    data = model.observation()
    base = flow.sample_base(200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        draw = proposal.from_base(base, data)
        again = proposal.log_prob(draw.latents, draw.auxiliary, data)
    torch.testing.assert_close(draw.log_prob, again, rtol=0, atol=1e-7)
    assert proposal.base_dim == base.shape[1] == 2


def test_the_differentiable_proposal_has_the_same_density_and_a_gradient(pair_graph):
    model, flow = exact_flow(pair_graph, 0.5)
    flow.engine = AdaptiveEngine(1e-9)
    data = model.observation()
    smooth = FlowProposal(flow, model).differentiable(data)
    base = flow.sample_base(50, generator=torch.Generator().manual_seed(0))
    base.requires_grad_()
    draw = smooth.from_base(base, data)
    expected = FlowProposal(flow, model).from_base(base.detach(), data)
    torch.testing.assert_close(draw.log_prob.detach(), expected.log_prob)
    (slope,) = torch.autograd.grad(draw.latents.sum(), base)
    step = 1e-6
    moved = base.detach().clone()
    moved[:, 0] += step
    change = smooth.from_base(moved, data).latents.sum(1) - draw.latents.sum(1)
    torch.testing.assert_close(slope[:, 0], change.detach() / step, rtol=1e-4, atol=0)


def test_an_unknown_proposal_is_refused(pair_graph):
    model, flow = exact_flow(pair_graph, 0.0)
    with pytest.raises(ValueError, match="expected one of flow, prior, mixture"):
        proposal_of("guess", flow, model)
    assert [proposal_of(kind, flow, model).auxiliary_dim for kind in KINDS] == [0, 0, 0]


@pytest.fixture(scope="module", params=["gaussian_tree", "state_space"])
def program(request):
    """A program, a flow that is wrong by half a deviation, and the exact answer."""
    name = f"{request.param}.daphne"
    compiled = compile_program((PROGRAMS / name).read_text(), name)
    graph = Graph.from_document(document_from_json(compiled.document, name))
    model, flow = exact_flow(graph, 0.5)
    flow.engine = AdaptiveEngine(1e-6)
    data = {name: graph.node(name).observation for name in graph.observed}
    return model, flow, joint_gaussian(graph).posterior(data)


def check(particles, error, errors, exact):
    """Check evidence, means and covariances within 4 standard errors."""
    assert abs(particles.totals.log_evidence - exact.log_evidence) < 4 * error + 1e-3
    place = [exact.names.index(each.name) for each in particles.columns]
    gap = particles.mean().numpy() - exact.mean[place]
    assert (np.abs(gap) < 4 * errors + 1e-6).all()
    weights = particles.normalized_weights.numpy()
    centred = particles.latents.numpy() - particles.mean().numpy()
    found = (weights[:, None] * centred).T @ centred
    wanted = exact.covariance[np.ix_(place, place)]
    # The standard error of a normal sample covariance, for the ess of the means.
    spread = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2)
    ess = (np.diag(wanted) / np.maximum(errors, 1e-9) ** 2).min()
    assert (np.abs(found - wanted) < 4 * spread / np.sqrt(ess)).all()


@pytest.mark.slow
def test_importance_sampling_gives_the_exact_answer(program):
    model, flow, exact = program
    for kind in ("flow", "mixture"):
        proposal = proposal_of(kind, flow, model)
        particles = importance_particles(
            model, proposal, model.observation(), 10_000, seed=1
        )
        error = particles.totals.log_evidence_standard_error
        check(particles, error, particles.mean_standard_error().numpy(), exact)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("method", ["sequential", "base hmc", "base walk", "free walk"])
def test_every_method_and_scheme_gives_the_exact_answer(program, method, scheme):
    model, flow, exact = program
    data = model.observation()
    proposal = FlowProposal(flow, model)
    if method == "sequential":
        sequence = ObserveSequence(model, proposal, data)
        result = result_of(sequential_smc(sequence, 5000, seed=2, scheme=scheme))
    else:
        space = (
            FreeSpace(model, proposal, data)
            if method == "free walk"
            else BaseSpace(model, proposal.differentiable(data), data)
        )
        move = Hamiltonian(4) if method == "base hmc" else RandomWalk()
        result = result_of(
            annealed_smc(
                space, 1000, seed=2, scheme=scheme, move=move, num_moves=2,
                ess_threshold=0.95,
            )
        )  # fmt: skip
    errors = result.mean_standard_error().numpy()
    check(result.particles, result.log_evidence_standard_error, errors, exact)

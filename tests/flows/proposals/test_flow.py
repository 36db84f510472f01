"""Tests of flows.proposals.flow against the joint normal of linear programs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from daphne_bridge.inversion.nami import invert
from flows.cnf import checked
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.vector_field import FieldConfig
from flows.errors import InferenceError, ModelError
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.proposals.flow import KINDS, FlowProposal, proposal_of

from ...exact import joint_gaussian
from ..measurement.test_evaluation import exact_flow

PROGRAMS = Path(__file__).parents[3] / "clj-programs"


def test_density_of_a_base_point_is_the_density_where_it_goes(pair_graph):
    model, flow = exact_flow(pair_graph, 0.5)
    proposal = FlowProposal(flow, model, tolerance=1e-9)
    data = model.observation()
    base = flow.sample_base(200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        draw = proposal.from_base(base, data)
        again = proposal.log_prob(draw.latents, draw.nuisances, data)
    torch.testing.assert_close(draw.log_prob, again, rtol=0, atol=1e-7)


def test_the_differentiable_proposal_has_the_same_density_and_a_gradient(pair_graph):
    model, flow = exact_flow(pair_graph, 0.5)
    flow.engine = AdaptiveEngine(1e-9)
    data = model.observation()
    smooth = FlowProposal(flow, model).differentiable(data)
    assert smooth.base_dim == 2
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


def test_a_flow_too_stiff_to_weigh_says_so_in_bounded_time(pair_graph, monkeypatch):
    monkeypatch.setattr(checked, "_MOST_WORK", 1e3)
    model, flow = exact_flow(pair_graph, 0.5)
    proposal = FlowProposal(flow, model)
    generator = torch.Generator().manual_seed(0)
    few = proposal.rsample_and_log_prob(model.observation(), 30, generator=generator)
    assert bool(few.log_prob.isfinite().all())
    with torch.no_grad():
        for parameter in proposal.flow.parameters():
            parameter.normal_(0.0, 100.0, generator=generator)
    with pytest.raises(InferenceError, match="needs no flow"):
        proposal.rsample_and_log_prob(model.observation(), 30, generator=generator)


@pytest.mark.parametrize("name", ["gaussian_tree", "state_space"])
@pytest.mark.parametrize("num_given", [1, 4])
def test_remaining_latents_have_the_closed_form_conditional(name, num_given):
    graph = Model.compile(PROGRAMS / f"{name}.daphne").graph
    model, flow = exact_flow(graph, 0.0)
    data = {name: graph.node(name).observation for name in graph.observed}
    exact = joint_gaussian(graph).posterior(data)
    proposal = FlowProposal(flow, model, tolerance=1e-9)
    order = list(flow.structure.names)
    chosen = order[:num_given]
    own = {latent: exact.names.index(latent) for latent in exact.names}
    a, r = ([own[n] for n in part] for part in (chosen, order[num_given:]))
    # values three deviations from the mean, in turns above and below
    moved = 3.0 * np.sqrt(np.diag(exact.covariance)[a]) * (-1.0) ** np.arange(len(a))
    values = exact.mean[a] + moved
    gain = np.linalg.solve(
        exact.covariance[np.ix_(a, a)], exact.covariance[np.ix_(a, r)]
    )
    mean = exact.mean[r] + moved @ gain
    covariance = exact.covariance[np.ix_(r, r)] - exact.covariance[np.ix_(r, a)] @ gain
    num = 4000
    given = {
        n: torch.full((num,), float(v), dtype=torch.float64)
        for n, v in zip(chosen, values, strict=True)
    }
    draw = proposal.rsample_remaining(
        given, model.observation(), generator=torch.Generator().manual_seed(0)
    )
    columns = [model.layout.variable(n).start for n in order]
    latents = draw.latents[:, columns].numpy()
    assert (latents[:, :num_given] == values).all()
    rest = latents[:, num_given:]
    target = stats.multivariate_normal(mean, covariance)
    # the affine layer is fitted to 200,000 draws: its error, and 5 standard errors
    np.testing.assert_allclose(draw.log_prob.numpy(), target.logpdf(rest), atol=0.1)
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(rest.mean(0) - mean) < (5 / num**0.5 + 0.03) * spread).all()
    found = np.cov(rest.T).reshape(len(r), len(r)) / np.outer(spread, spread)
    wanted = covariance / np.outer(spread, spread)
    np.testing.assert_allclose(found, wanted, atol=0.15)
    # one term per remaining node, each the conditional given its ancestors
    last = stats.multivariate_normal(exact.mean[a], exact.covariance[np.ix_(a, a)])
    prefix = draw.log_prob_per_node[:, :num_given].sum(-1).numpy()
    np.testing.assert_allclose(prefix, last.logpdf(values), atol=0.1)


CURVED = """
(let [s (sample (gamma 2.0 1.0))
      w (sample (uniform-continuous 0.0 s))
      m (sample (normal w 1.0))
      x (observe (normal m s) 0.5)]
  [s w m])
"""


def test_remaining_latents_of_bounded_support_add_up_to_the_joint():
    model = Model.from_program(CURVED)
    structure = build_structure(invert(model.graph), model.layout, 1)
    flow = build_flow(structure, FieldConfig(layers=2, hidden=4), seed=0).double()
    proposal = FlowProposal(flow, model, tolerance=1e-9)
    data = model.observation()
    generator = torch.Generator().manual_seed(0)
    joint = proposal.rsample_and_log_prob(data, 50, generator=generator)
    names = [v.name for v in model.layout.latents]
    whole = {n: joint.latents[:, i] for i, n in enumerate(names)}
    everything = proposal.rsample_remaining(
        whole, data, generator=generator, nuisances=joint.nuisances
    )
    torch.testing.assert_close(everything.log_prob_per_node.sum(-1), joint.log_prob)
    assert torch.equal(everything.latents, joint.latents)
    assert torch.equal(everything.log_prob, torch.zeros(50).double())
    first = structure.names[0]
    given = {first: whole[first]}
    if first == "sample1":  # its support is decided by another latent
        with pytest.raises(InferenceError, match="no free coordinate"):
            proposal.rsample_remaining(given, data, generator=generator)
    else:
        draw = proposal.rsample_remaining(
            given, data, generator=generator, nuisances=joint.nuisances
        )
        again = proposal.log_prob(draw.latents, draw.nuisances, data)
        torch.testing.assert_close(draw.log_prob_per_node.sum(-1), again)
        kept = draw.log_prob_per_node[:, 0] + draw.log_prob
        torch.testing.assert_close(kept, again)
    with pytest.raises(ModelError, match="outside the support of gamma"):
        proposal.rsample_remaining(
            {**whole, "sample0": -whole["sample0"]}, data, generator=generator
        )


def test_an_unknown_proposal_is_refused(pair_graph):
    model, flow = exact_flow(pair_graph, 0.0)
    with pytest.raises(ValueError, match="expected one of flow, prior, mixture"):
        proposal_of("guess", flow, model)
    assert [proposal_of(kind, flow, model).nuisance_dim for kind in KINDS] == [0, 0, 0]


def test_numbers_of_a_flow_that_overflow_are_said_to(pair_graph):
    model = Model.from_graph(pair_graph)
    structure = build_structure(invert(pair_graph), model.layout, 0)
    flow = build_flow(structure, kind="autoregressive", seed=0)
    data = torch.full_like(model.observation(), 1e308)
    with pytest.raises(InferenceError, match="have no density, as the flow's numbers"):
        FlowProposal(flow, model).rsample_and_log_prob(
            data, 10, generator=torch.Generator().manual_seed(0)
        )

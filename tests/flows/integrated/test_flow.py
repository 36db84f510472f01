"""Tests of flows.integrated.flow: a flow of the kept latents, completed."""

import math

import pytest
import torch

from flows.errors import ArgumentError
from flows.flow.building import build_structure, inverse_of
from flows.flow.kinds import build_flow, certified, for_weights
from flows.flow.protocol import Known
from flows.inference.weights import WeightTotals
from flows.integrated.conditionals import latents_to_integrate
from flows.integrated.flow import CompletedFlow
from flows.integrated.target import IntegratedModel
from flows.model.model import Model
from flows.proposals.flow import FlowProposal
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR


def untrained(target, *, kind="autoregressive", nuisances=0):
    """A flow of the kept latents, its normalisation fitted."""
    structure = build_structure(
        inverse_of(target.graph, target.layout), target.layout, nuisances
    )
    inner = build_flow(structure, kind=kind, seed=1)
    draws = target.sample(4000, generator=torch.Generator().manual_seed(0))
    inner.fit_normalisation(target.unconstrain(draws.latents)[0], draws.observed)
    return inner


def _flow(text, *, kind="autoregressive", nuisances=1):
    model = Model.from_program(text)
    target = IntegratedModel(model, latents_to_integrate(model.graph, model.layout))
    inner = untrained(target, kind=kind, nuisances=nuisances)
    return for_weights(CompletedFlow(inner, target))


def _draw(flow, count, seed=0):
    model = flow.target.model
    draws = model.sample(count, generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        return flow.rsample_and_log_prob(draws.observed, generator=generator), (
            draws.observed
        )


@pytest.mark.parametrize("text", [CIRCUIT, GROUPS])
def test_density_at_a_draw_is_what_came_with_it(text):
    flow = _flow(text)
    drawn, observed = _draw(flow, 60)
    with torch.no_grad():
        found = flow.log_prob_per_node(drawn.free, drawn.nuisances, observed)
    torch.testing.assert_close(found, drawn.log_prob_per_node, atol=1e-6, rtol=1e-6)
    assert found.shape[1] == len(flow.structure.names)


def test_structure_has_every_latent_parents_first():
    flow = _flow(CIRCUIT)
    assert [*flow.structure.names[3:]] == ["sample0", "sample4", "sample2"]
    reads = {
        block.name: {flow.structure.names[i] for i in block.latent_parents}
        for block in flow.structure.blocks
    }
    assert reads["sample0"] == {"sample1", "sample3"}
    assert reads["sample2"] == {"sample0", "sample1"}


def test_weights_are_exact_whatever_the_inner_flow_is():
    """The evidence of a linear model is known; the inner flow is not trained."""
    flow = _flow(LINEAR)
    model = flow.target.model
    observed = model.observation()
    proposal = FlowProposal(flow, model)
    with torch.no_grad():
        draw = proposal.rsample_and_log_prob(
            observed, 10_000, generator=torch.Generator().manual_seed(3)
        )
        log_weights = model.log_joint(draw.latents, observed) - draw.log_prob
    totals = WeightTotals.from_log_weights(log_weights)
    covariance = torch.tensor([[5.25, 4.0], [4.0, 5.25]], dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(
        torch.zeros(2, dtype=torch.float64), covariance
    ).log_prob(observed)
    error = totals.log_evidence_standard_error
    assert abs(totals.log_evidence - float(exact)) < 5 * error
    assert error < 0.05


def test_latents_that_are_not_kept_add_next_to_nothing_to_the_weights():
    flow = _flow(GROUPS, nuisances=0)
    drawn, observed = _draw(flow, 300)
    model, target = flow.target.model, flow.target
    kept = drawn.free[:, target.kept.free_columns]
    whole = model.log_joint_free(drawn.free, observed) - drawn.log_prob
    inner = target.log_joint_free(kept, observed) - flow.inner.log_prob(
        kept, drawn.nuisances, observed
    )
    gap = (whole - inner).detach()
    assert float(gap.abs().median()) < 0.01
    assert float((gap.abs() < 0.1).double().mean()) > 0.9


def test_grids_of_the_circuit_add_next_to_nothing_to_its_j():
    """A sharp peak can lie in the tail of the prior, away from a flat first mode."""
    flow = _flow(CIRCUIT)
    model = flow.target.model
    draws = model.sample(2000, generator=torch.Generator().manual_seed(5))
    kept = model.unconstrain(draws.latents)[0][:, flow.target.kept.free_columns]
    lines = flow.target.levels[0]
    with torch.no_grad():
        whole = flow.target.kept.filled_free(kept)
        grid = lines.grids(whole, draws.observed)
        truth = draws.latents[:, lines.columns]
        uniform = torch.Generator().manual_seed(6)
        share = torch.rand(truth.shape, generator=uniform, dtype=truth.dtype)
        drawn = grid.quantile(share[..., None])[..., 0]
        errors = []
        for values in (truth, drawn):
            rows = model.unconstrain(draws.latents)[0]
            rows[:, lines.columns] = values
            own = lines.log_densities(rows[None], draws.observed)[0]
            errors.append(own - grid.log_prob(values[..., None])[..., 0])
    assert float((0.5 * (errors[0] - errors[1])).mean(0).max()) < 0.003


def test_remaining_latents_are_drawn_given_an_ancestral_set():
    flow = _flow(CIRCUIT)
    drawn, observed = _draw(flow, 50)
    given = (*flow.structure.names[:3], "sample0")
    again = flow.rsample_remaining(
        Known(drawn.free, drawn.nuisances, given),
        observed,
        generator=torch.Generator().manual_seed(9),
    )
    layout = flow.target.model.layout
    column = {v.name: v.free_start for v in layout.latents}
    for name in column:
        is_same = torch.allclose(
            again.free[:, column[name]], drawn.free[:, column[name]]
        )
        assert is_same == (name in given)
    with torch.no_grad():
        found = flow.log_prob_per_node(again.free, again.nuisances, observed)
    torch.testing.assert_close(found, again.log_prob_per_node, atol=1e-6, rtol=1e-6)
    with pytest.raises(ArgumentError, match="given without what it depends on"):
        flow.rsample_remaining(
            Known(drawn.free, drawn.nuisances, ("sample0",)), observed
        )


def test_draws_of_an_integrated_latent_have_its_conditional_distribution():
    """Of a given m and x: normal of mean (m + 4 x) / 5 and variance 1 / 5."""
    flow = _flow(LINEAR)
    drawn, observed = _draw(flow, 4000)
    column = {v.name: v.free_start for v in flow.target.model.layout.latents}
    m, a = (drawn.free[:, column[name]] for name in ("sample0", "sample1"))
    unit = (a - (m + 4.0 * observed[:, 0]) / 5.0) * math.sqrt(5.0)
    assert abs(float(unit.mean())) < 5 / math.sqrt(4000)
    assert abs(float(unit.var()) - 1.0) < 5 * math.sqrt(2 / 4000)


def test_map_from_the_base_carries_gradients():
    flow = _flow(LINEAR, kind="cnf")
    model = flow.target.model
    observed = model.observation()
    flow_map = FlowProposal(flow, model).differentiable(observed)
    base = torch.zeros(3, flow.structure.state_dim, dtype=torch.float64)
    base.requires_grad_()
    found = flow_map.from_base(base, observed)
    (slopes,) = torch.autograd.grad(found.log_prob.sum(), base)
    assert bool(torch.isfinite(slopes).all())
    assert float(slopes.abs().max()) > 0


def test_versions_for_weights_and_figures_are_of_the_inner_flow():
    flow = _flow(LINEAR)
    assert for_weights(flow) is flow
    assert isinstance(certified(flow), CompletedFlow)
    assert flow.inner.dtype == torch.float64

"""Tests of flows.integrated.linked: latents that are normal together."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from flows.errors import ArgumentError
from flows.flow.kinds import for_weights
from flows.flow.protocol import Known
from flows.integrated.choice import integrated_where_it_pays
from flows.integrated.flow import CompletedFlow
from flows.integrated.target import IntegratedModel
from flows.model.model import Model
from flows.proposals.flow import FlowProposal
from tests.flows.integrated.programs import CIRCUIT
from tests.flows.integrated.test_flow import untrained

XS, GROUPS = (-1.0, 0.5, 2.0), 3
SLOPES = f"""
(let [mu (sample (normal 1 2))
      sa (sample (gamma 2 2))
      s (sample (gamma 2 4))
      a (foreach {GROUPS} [] (sample (normal mu sa)))
      b (foreach {GROUPS} [] (sample (normal 0 sa)))
      unread (sample (normal (tanh mu) sa))]
  (foreach {GROUPS} [level a slope b]
    (foreach 3 [x [{" ".join(map(str, XS))}]]
      (observe (normal (+ level (* slope x)) s) 0.4)))
  [mu sa s])
"""
"""Levels and slopes of groups, and what they share: linked given two scales."""


@pytest.fixture(scope="module")
def model():
    return Model.from_program(SLOPES)


@pytest.fixture(scope="module")
def target(model):
    return integrated_where_it_pays(model)


def _names(model):
    """Of the linked latents, in the order of `_laws`."""
    found = [model.layout.latents_named(name) for name in ("mu", "a", "b")]
    return [variable.name for group in found for variable in group]


def _value(model, row, label):
    (variable,) = model.layout.latents_named(label)
    return float(row[variable.start])


def _posterior(model, row, data_row):
    """Mean and covariance of (mu, a, b) given scales and data, by hand."""
    scale, noise = (_value(model, row, label) for label in ("sa", "s"))
    mean, prior, design, data = _laws(scale, noise)
    gain = prior @ design.T @ np.linalg.inv(data)
    mean = mean + gain @ (data_row.numpy() - design @ mean)
    return mean, prior - gain @ design @ prior


def _laws(scale, noise):
    """Mean and covariance of (mu, a, b, data) given the scales, by hand."""
    size = 1 + 2 * GROUPS
    prior = np.zeros((size, size))
    prior[0, :] = prior[:, 0] = 0.0
    common = np.zeros(size)
    common[: 1 + GROUPS] = 1.0
    prior = 4.0 * np.outer(common, common) + np.diag([0.0] + [scale**2] * (size - 1))
    design = np.zeros((3 * GROUPS, size))
    for group, (place, x) in itertools.product(range(GROUPS), enumerate(XS)):
        design[3 * group + place, 1 + group] = 1.0
        design[3 * group + place, 1 + GROUPS + group] = x
    data = design @ prior @ design.T + noise**2 * np.eye(3 * GROUPS)
    return common, prior, design, data


def _rows(target, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = target.model.sample(count, generator=generator)
    return draws.latents, draws.observed


def test_all_of_them_go_and_the_scales_stay(model, target):
    assert isinstance(target, IntegratedModel)
    kept = [variable.label for variable in target.layout.latents]
    assert sorted(kept) == ["s", "sa"]
    assert target.integrated[-1] == model.layout.latents_named("unread")[0].name
    assert {*target.integrated[:-1]} == {*_names(model)}


def test_density_is_that_of_the_data_given_the_scales(model, target):
    latents, observed = _rows(target, 40)
    found = target.log_joint(latents[:, target.kept.columns], observed)
    for row in range(40):
        scale, noise = (_value(model, latents[row], each) for each in ("sa", "s"))
        mean, _, design, data = _laws(scale, noise)
        exact = scipy.stats.multivariate_normal.logpdf(
            observed[row].numpy(), design @ mean, data
        )
        exact += scipy.stats.gamma.logpdf(scale, 2, scale=0.5)
        exact += scipy.stats.gamma.logpdf(noise, 2, scale=0.25)
        assert float(found[row]) == pytest.approx(exact, abs=1e-8, rel=1e-9)


def test_gradient_is_that_of_finite_differences(target):
    latents, observed = _rows(target, 10)
    free = target.unconstrain(latents[:, target.kept.columns])[0].requires_grad_()
    (found,) = torch.autograd.grad(target.log_joint_free(free, observed).sum(), free)
    with torch.no_grad():
        for column in range(free.shape[1]):
            step = torch.zeros_like(free)
            step[:, column] = 1e-5
            up, down = (
                target.log_joint_free(free + side * step, observed) for side in (1, -1)
            )
            torch.testing.assert_close(
                found[:, column], (up - down) / 2e-5, rtol=1e-5, atol=1e-5
            )


def test_conditionals_are_those_of_the_joint_normal(model, target):
    """In sampling order: of the first i of them, by Schur complements."""
    flow = for_weights(CompletedFlow(untrained(target), target))
    latents, observed = _rows(target, 10)
    free = model.unconstrain(latents)[0]
    with torch.no_grad():
        found = flow.log_prob_per_node(free, free[:, :0], observed)
    names = _names(model)
    order = [names.index(name) for name in target.integrated[:-1]]
    first = flow.structure.names.index(target.integrated[0])
    for row in range(10):
        mean, spread = _posterior(model, latents[row], observed[row])
        values = latents[row, [model.layout.variable(n).start for n in names]].numpy()
        before = 0.0
        for place in range(len(order)):
            own = order[: place + 1]
            upto = scipy.stats.multivariate_normal.logpdf(
                values[own], mean[own], spread[np.ix_(own, own)]
            )
            assert float(found[row, first + place]) == pytest.approx(
                upto - before, abs=1e-6
            )
            before = upto


def test_draws_have_the_density_that_comes_with_them(model, target):
    flow = for_weights(CompletedFlow(untrained(target), target))
    _, observed = _rows(target, 200)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        drawn = flow.rsample_and_log_prob(observed, generator=generator)
        found = flow.log_prob_per_node(drawn.free, drawn.nuisances, observed)
    torch.testing.assert_close(found, drawn.log_prob_per_node, atol=1e-6, rtol=1e-6)


def test_draws_are_those_of_the_joint_normal(model, target):
    """Standardised by its mean and root they are independent standard normals."""
    linked = target.levels[0]
    latents, observed = _rows(target, 1)
    count = 20_000
    free = model.unconstrain(latents)[0].expand(count, -1)
    base = torch.randn(
        count, len(linked.columns), generator=torch.Generator().manual_seed(4)
    )
    none = torch.zeros(len(linked.columns), dtype=torch.bool)
    drawn, _ = linked.completed(free, observed.expand(count, -1), base, none)
    mean, spread = _posterior(model, latents[0], observed[0])
    order = [_names(model).index(each.name) for each in linked.conditionals]
    root = np.linalg.cholesky(spread[np.ix_(order, order)])
    unit = np.linalg.solve(root, (drawn.numpy() - mean[order]).T).T
    assert np.abs(unit.mean(0)).max() < 5 / math.sqrt(count)
    assert np.abs(np.cov(unit.T) - np.eye(len(order))).max() < 5 * math.sqrt(2 / count)


def test_each_reads_what_is_drawn_before_it(target):
    flow = CompletedFlow(untrained(target), target)
    names = flow.structure.names
    for place, block in enumerate(flow.structure.blocks):
        assert all(parent < place for parent in block.latent_parents)
        if block.name in target.integrated[:-1]:
            assert {names.index(v.name) for v in target.layout.latents} <= {
                *block.latent_parents
            }


def test_remaining_latents_are_drawn_given_the_first_ones(model, target):
    flow = for_weights(CompletedFlow(untrained(target), target))
    _, observed = _rows(target, 30)
    with torch.no_grad():
        drawn = flow.rsample_and_log_prob(
            observed, generator=torch.Generator().manual_seed(5)
        )
        given = flow.structure.names[:5]
        again = flow.rsample_remaining(
            Known(drawn.free, drawn.nuisances, given),
            observed,
            generator=torch.Generator().manual_seed(6),
        )
        found = flow.log_prob_per_node(again.free, again.nuisances, observed)
    torch.testing.assert_close(found, again.log_prob_per_node, atol=1e-6, rtol=1e-6)
    for variable in model.layout.latents:
        own = slice(variable.free_start, variable.free_stop)
        is_same = torch.allclose(again.free[:, own], drawn.free[:, own])
        assert is_same == (variable.name in given)


def test_slopes_of_the_map_from_the_base_are_those_of_finite_differences(model, target):
    flow = for_weights(CompletedFlow(untrained(target), target))
    observed = model.observation()
    flow_map = FlowProposal(flow, model).differentiable(observed)
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(
        1, flow.structure.state_dim, generator=generator, dtype=torch.float64
    )

    def total(points):
        drawn = flow_map.from_base(points, observed)
        return drawn.log_prob.sum() + drawn.latents.sum()

    leaf = base.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(total(leaf), leaf)
    for column in range(base.shape[1]):
        step = torch.zeros_like(base)
        step[:, column] = 1e-5
        with torch.no_grad():
            exact = float(total(base + step) - total(base - step)) / 2e-5
        assert float(slopes[0, column]) == pytest.approx(exact, rel=1e-4, abs=1e-4)


def _with_a_scale_of_nothing(target, *, with_slopes=False):
    """Three rows, the second without noise; values of linked latents, and terms."""
    linked = target.levels[0]
    latents, observed = _rows(target, 3)
    free = target.model.unconstrain(latents)[0]
    (scale,) = target.model.layout.latents_named("s")
    free[1, scale.free_start] = -800.0
    free.requires_grad_(with_slopes)
    base = torch.zeros(3, len(linked.columns), dtype=torch.float64)
    none = torch.zeros(len(linked.columns), dtype=torch.bool)
    return free, observed, *linked.completed(free, observed, base, none)


def test_a_scale_of_nothing_has_no_density_and_still_draws(target):
    free, observed, values, terms = _with_a_scale_of_nothing(target)
    assert bool(values.isfinite().all())
    assert bool(terms.isfinite().all())
    kept = free[:, target.kept.free_columns]
    found = target.log_joint_free(kept, observed)
    assert bool(found[[0, 2]].isfinite().all())
    assert float(found[1]) == -math.inf


def test_a_row_without_a_density_spoils_no_slopes(target):
    free, _, values, terms = _with_a_scale_of_nothing(target, with_slopes=True)
    (slopes,) = torch.autograd.grad((values + terms).sum(), free)
    assert bool(slopes.isfinite().all())
    assert float(slopes[[0, 2]].abs().max()) > 0.0


def test_components_that_nothing_joins_are_drawn_apart():
    model = Model.from_program("""
        (let [s (sample (gamma 2 2))
              m (sample (laplace 0 1))
              a (sample (normal m s)) b (sample (normal a s))
              c (sample (normal m s)) d (sample (normal c s))]
          (observe (normal (+ a b) s) 0.3)
          (observe (normal (- c d) s) 0.5)
          [a b c d])""")
    target = integrated_where_it_pays(model)
    kept = {v.label for v in target.layout.latents}
    assert kept == {"s", "m"}
    label = {v.name: v.label for v in model.layout.latents}
    for each in target.conditionals:
        read = {label[name] for name in each.latents} - kept
        pair = {"a", "b"} if label[each.name] in "ab" else {"c", "d"}
        assert read <= pair


@pytest.mark.parametrize("names", [("sample0", "sample3"), ("sample4", "sample5")])
def test_latents_that_are_not_normal_together_are_refused(names):
    model = Model.from_program(CIRCUIT)
    with pytest.raises(ArgumentError, match="in each other's Markov blankets"):
        IntegratedModel(model, names)


def test_linked_latents_beside_one_that_is_apart_from_them():
    model = Model.from_program("""
        (let [s (sample (gamma 2 2)) t (sample (gamma 2 2))
              a (sample (normal 0 s)) b (sample (normal a s))
              r (sample (gamma 2 t))]
          (observe (normal (+ a b) s) 0.3)
          (observe (poisson r) 2) (observe (poisson r) 7)
          [a b r])""")
    target = integrated_where_it_pays(model)
    kept = {v.label for v in target.layout.latents}
    assert kept == {"s", "t"}


GROUP = """
(let [mu (sample (normal 0 5))
      l (sample (normal 0 3))
      a (foreach 5 [] (sample (normal mu (exp l))))]
  (foreach 5 [x a] (observe (normal x 1) 0.7))
  [mu l])
"""


@pytest.mark.parametrize("log_scale", [2.0, -5.0, -15.0, -20.0, -25.0])
def test_scales_far_below_those_of_the_data_leave_digits(log_scale):
    """What v adds is the same wherever it is: log p(v, c, x) - log q(v | c, x)."""
    model = Model.from_program(GROUP)
    target = integrated_where_it_pays(model)
    linked = target.levels[0]
    count = 200
    free = torch.full((count, model.layout.free_dim), log_scale, dtype=torch.float64)
    data = model.observation().expand(count, -1)
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(count, len(linked.columns), generator=generator)
    none = torch.zeros(len(linked.columns), dtype=torch.bool)
    values, terms = linked.completed(free, data, base, none)
    whole = free.index_copy(1, torch.tensor(linked.columns), values)
    scale = math.exp(log_scale)
    covariance = 25.0 * np.ones((5, 5)) + (1.0 + scale**2) * np.eye(5)
    exact = scipy.stats.multivariate_normal.logpdf(np.full(5, 0.7), cov=covariance)
    exact += scipy.stats.norm.logpdf(log_scale, 0.0, 3.0)
    found = model.log_joint_free(whole, data) - terms.sum(-1)
    assert float((found - exact).abs().max()) < 1e-3
    again = linked.completed(whole, data, torch.zeros_like(base), ~none)[1]
    torch.testing.assert_close(again, terms, atol=1e-3, rtol=0)
    (row,) = target.kept.free_columns
    kept = torch.full((1, 1), log_scale, dtype=torch.float64)
    assert int(row) == model.layout.latents_named("l")[0].free_start
    assert float(target.log_joint_free(kept, data[:1])) == pytest.approx(
        exact, abs=1e-8
    )


def test_data_far_below_their_rounding_have_no_density():
    model = Model.from_program(
        GROUP.replace("(normal x 1)", "(normal x (exp l))").replace(
            "(exp l))))]", "1)))]"
        )
    )
    target = integrated_where_it_pays(model)
    free = torch.tensor([[0.0], [-200.0]], dtype=torch.float64)
    found = target.log_joint_free(free, model.observation()[None])
    assert math.isfinite(found[0])
    assert float(found[1]) in (-math.inf, pytest.approx(-2e3, rel=0.5))


def test_slopes_in_data_are_those_of_finite_differences(target):
    latents, observed = _rows(target, 4)
    free = target.unconstrain(latents[:, target.kept.columns])[0]
    leaf = observed.clone().requires_grad_()
    (found,) = torch.autograd.grad(target.log_joint_free(free, leaf).sum(), leaf)
    for column in range(observed.shape[1]):
        step = torch.zeros_like(observed)
        step[:, column] = 1e-5
        up, down = (
            target.log_joint_free(free, observed + side * step) for side in (1, -1)
        )
        torch.testing.assert_close(
            found[:, column], (up - down) / 2e-5, rtol=1e-4, atol=1e-5
        )


def test_no_rows_have_no_values(model, target):
    linked = target.levels[0]
    none = torch.zeros(len(linked.columns), dtype=torch.bool)
    values, terms = linked.completed(
        torch.zeros(0, model.layout.free_dim),
        torch.zeros(0, model.layout.observed_dim),
        torch.zeros(0, len(linked.columns)),
        none,
    )
    assert values.shape == terms.shape == (0, len(linked.columns))

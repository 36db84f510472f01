"""Tests of flows.integrated.target: the density of the kept latents."""

import itertools
import math

import pytest
import scipy.integrate
import scipy.stats
import torch

from flows.flow.building import inverse_of
from flows.integrated.conditionals import latents_to_integrate
from flows.integrated.target import IntegratedModel
from flows.model.model import Model
from tests.flows.integrated.programs import CIRCUIT, GROUPS, LINEAR


def _target(text):
    model = Model.from_program(text)
    return IntegratedModel(model, latents_to_integrate(model.graph, model.layout))


def _draws(target, count, seed=0):
    draws = target.sample(count, generator=torch.Generator().manual_seed(seed))
    return draws.latents, draws.observed


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_density_of_a_linear_model_is_that_of_its_marginal(far):
    target = _target(LINEAR.replace("normal 0 2", f"normal {far} 2"))
    latents, observed = _draws(target, 50)
    found = target.log_joint(latents, observed)
    mean, wide = latents[:, 0], math.sqrt(1.0 + 0.25)
    exact = torch.distributions.Normal(far, 2.0).log_prob(mean)
    for column in (0, 1):
        exact += torch.distributions.Normal(mean, wide).log_prob(observed[:, column])
    torch.testing.assert_close(found, exact, atol=1e-8 * (1.0 + far), rtol=0)


def test_density_of_the_circuit_is_that_of_quadrature():
    target = _target(CIRCUIT)
    latents, observed = _draws(target, 6)
    found = target.log_joint(latents, observed)
    normal, laplace = scipy.stats.norm.pdf, scipy.stats.laplace.pdf
    for row in range(6):
        z1, z3, z5 = latents[row].tolist()
        x0, x1 = observed[row].tolist()
        at = z3 / z1
        points = sorted([5.0, at - 0.3 / abs(z1), at, at + 0.3 / abs(z1)])
        over_z0 = _integral(
            lambda z, z1=z1, z3=z3: laplace(z, 5, 1) * normal(z3, z * z1, 0.1), points
        )
        over_z4 = _integral(
            lambda z, z3=z3, z5=z5: (
                normal(z, 7, 2) * normal(z5, math.tanh(z3 + z), 0.1)
            ),
            [-z3 - 1.0, -z3, -z3 + 1.0, 7.0],
        )
        exact = laplace(z1, -2, 1) * over_z0 * over_z4
        exact *= normal(x0, z3, 0.1) * normal(x1, z5, 0.1)
        assert float(found[row]) == pytest.approx(math.log(exact), abs=0.03)


def _integral(density, points):
    ends = [-80.0, *sorted(points), 80.0]
    return sum(
        scipy.integrate.quad(density, low, high, limit=300)[0]
        for low, high in itertools.pairwise(ends)
    )


def test_free_coordinates_are_those_of_the_whole_model():
    target = _target(GROUPS)
    latents, observed = _draws(target, 40)
    free, log_det = target.unconstrain(latents)
    whole = target.model.sample(40, generator=torch.Generator().manual_seed(0)).latents
    torch.testing.assert_close(
        free, target.model.unconstrain(whole)[0][:, target.kept.free_columns]
    )
    torch.testing.assert_close(
        target.log_joint_free(free, observed),
        target.log_joint(latents, observed) + log_det,
    )


def test_gradient_of_the_density_is_the_posterior_mean_of_the_score():
    target = _target(LINEAR)
    latents, observed = _draws(target, 8)
    free = latents.clone().requires_grad_()
    (found,) = torch.autograd.grad(target.log_joint_free(free, observed).sum(), free)
    exact = -latents[:, 0] / 4.0 + (observed - latents).sum(-1) / 1.25
    torch.testing.assert_close(found[:, 0], exact)


def test_inverse_is_over_the_kept_latents():
    target = _target(CIRCUIT)
    inverse = inverse_of(target.graph, target.layout)
    assert set(inverse.latents) == {"sample1", "sample3", "sample5"}
    assert set(inverse.parents["sample1"]) <= {"sample3", "sample5"}
    assert [v.name for v in target.layout.latents] == ["sample1", "sample3", "sample5"]


def test_a_conditional_that_is_normal_whatever_the_others_do_is_exact():
    """Two factors of a product, and scales that others give; against quadrature."""
    model = Model.from_program("""
        (let [u (sample (normal 0 1)) s (sample (gamma 2 2)) v (sample (normal u s))]
          (observe (normal (* u (- v 2)) 0.01) 0.7)
          (observe (normal (exp u) s) 1.1)
          [u v])""")
    v, u, s = (model.layout.latents_named(n)[0].name for n in ("v", "u", "s"))
    target = IntegratedModel(model, (v,))
    latents, observed = _draws(target, 30)
    found = target.log_joint(latents, observed)
    names = [each.name for each in target.layout.latents]
    normal = scipy.stats.norm
    for row in range(30):
        given = dict(zip(names, latents[row].tolist(), strict=True))
        at, scale = given[u], given[s]
        first, second = observed[row].tolist()
        # Of v given the others, by hand: normal times normal.
        wide = math.sqrt(at**2 * scale**2 + 0.01**2)
        exact = normal.logpdf(first, at * (at - 2.0), wide)
        exact += normal.logpdf(at) + scipy.stats.gamma.logpdf(scale, 2, scale=0.5)
        exact += normal.logpdf(second, math.exp(at), scale)
        assert float(found[row]) == pytest.approx(exact, abs=1e-9, rel=1e-9)


def test_what_cannot_be_has_density_0_and_shapes_are_those_of_any_model():
    model = Model.from_program("""
        (let [a (sample (normal 0 1)) b (sample (gamma 2 2))]
          (observe (normal b (- 1 a)) 0.4) a)""")
    target = IntegratedModel(model, model.graph.latents[1:]).forgiving()
    data = torch.tensor([[0.4], [0.5], [0.6]], dtype=torch.float64)
    latents = torch.tensor([[2.0], [0.5]], dtype=torch.float64)
    found = target.log_joint(latents, data[:1])
    assert float(found[0]) == -math.inf
    assert math.isfinite(found[1])
    assert target.log_joint(latents[1:], data).shape == (3,)
    assert target.log_joint(latents[:0], data[:1]).shape == (0,)


def test_nothing_integrated_out_leaves_the_density_as_it_is():
    model = Model.from_program(LINEAR)
    latents, observed = _draws(model, 20)
    found = IntegratedModel(model, ()).log_joint(latents, observed)
    torch.testing.assert_close(found, model.log_joint(latents, observed))
